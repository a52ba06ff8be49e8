"""A suite of one's own on a few small images, for runs that are scored on it as they go."""

import numpy as np
from PIL import Image

SCORE = "suite/scenes/knn_l2_k1/cls/accuracy"
_SUITE = """
title = "Mine"
[[tasks]]
kind = "knn"
set = "scenes"
k = 1
pooling = "cls"
"""


def settings(folder, every_steps=0):
    """Writes mine.toml and its images; returns config keys that ask for it."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, name in enumerate(("forest", "river")):
            (folder / "scenes" / split / name).mkdir(parents=True)
            for place in range(3):
                pixels = rng.integers(100 * number, 100 * number + 60, (20, 20, 3), np.uint8)
                Image.fromarray(pixels).save(folder / "scenes" / split / name / f"{place}.png")
    (folder / "mine.toml").write_text(_SUITE)
    return {
        "evaluation.suite": str(folder / "mine.toml"),
        "evaluation.suite_dir": str(folder),
        "evaluation.suite_every_steps": every_steps,
    }
