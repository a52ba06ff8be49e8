"""`docs/data.md`: its commands parse, and name layouts, flags and config keys that there are."""

import shlex
from pathlib import Path

import pytest

from flavars_jax.ingredients import ingredients
from rsvl_jax import command
from rsvl_jax.datasets import __main__ as program
from rsvl_jax.datasets.image_text.readers import LAYOUTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/data.md").read_text()
LINES = [
    line.strip()
    for line in PAGE.splitlines()
    if line.startswith("    python -m") and "LAYOUT" not in line
]


def words(line, module):
    prefix = f"python -m {module} "
    return shlex.split(line.removeprefix(prefix), comments=True) if prefix in line else None


def test_every_layout_is_shown():
    shown = {argv[1] for line in LINES if (argv := words(line, "rsvl_jax.datasets"))}
    assert set(LAYOUTS) <= shown


@pytest.mark.parametrize("line", [line for line in LINES if "rsvl_jax.datasets" in line])
def test_commands_for_data_sets_parse(line):
    program._parse(words(line, "rsvl_jax.datasets"))


@pytest.mark.parametrize("line", [line for line in LINES if "flavars_jax.main" in line])
def test_commands_for_runs_parse(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    argv = words(line, "flavars_jax.main")
    config = command.parse(["main", *argv]).config
    assert all(part.weight > 0 for part in ingredients(config.data))
    assert f"--config.data.name={config.data.name}" in argv or "skyscript" in config.data.name
