"""The lines of docs/inference.md, as they stand there."""

import re
from pathlib import Path

import numpy as np
import tiny_runs
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "inference.md"


def test_the_lines_of_the_page_run(tmp_path, monkeypatch, capsys):
    (tmp_path / "runs" / "flavars").mkdir(parents=True)
    tiny_runs.flavars(tmp_path / "runs" / "flavars")
    for name in ("desert.png", "coast.png"):
        pixels = np.random.default_rng(len(name)).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    lines = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    assert len([line for line in lines.splitlines() if " = model." in line]) == 4
    found = {}
    exec(lines, found)
    assert found["images"].shape == found["texts"].shape == (2, tiny_runs.DIM)
    assert found["places"].shape == (2, tiny_runs.PLACES)
    assert found["patches"].shape == (1, 4, tiny_runs.DIM)
    assert all(isinstance(found[n], np.ndarray) for n in ("images", "texts", "places", "patches"))
    assert "[[" in capsys.readouterr().out
