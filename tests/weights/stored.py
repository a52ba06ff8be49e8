"""Stored cases: what an original model of other people computed from given weights and inputs.

A case is one .npz: its config.json as text and arrays under "weights/", "inputs/", "outputs/",
"losses/" and "gradients/", by the original's own names.
"""

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "cases"
ARRAYS = ("weights", "inputs", "outputs", "losses", "gradients")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One model and what it gave. gradients: of the sum of `losses`, for each of `weights` that
    has one; config: the original's config.json, {} where it has none."""

    weights: Arrays
    inputs: Arrays
    outputs: Arrays
    losses: Arrays = field(default_factory=dict)
    gradients: Arrays = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)


def read(name: str) -> Case:
    """The stored case of that name."""
    with np.load(FOLDER / f"{name}.npz") as file:
        named = {key: file[key] for key in file.files}
    config = json.loads(str(named.pop("config")))
    groups: dict[str, Arrays] = {group: {} for group in ARRAYS}
    for key, value in named.items():
        group, _, rest = key.partition("/")
        groups[group][rest] = value
    return Case(config=config, **groups)


def write(name: str, case: Case) -> Path:
    """Stores a case; the same case gives the same bytes."""
    named = {"config": np.array(json.dumps(case.config, sort_keys=True))}
    for group in ARRAYS:
        named |= {f"{group}/{key}": value for key, value in getattr(case, group).items()}
    path = FOLDER / f"{name}.npz"
    with zipfile.ZipFile(path, "w") as file:
        for key in sorted(named):
            content = io.BytesIO()
            np.save(content, named[key])
            entry = zipfile.ZipInfo(f"{key}.npy")  # a date of its own, always the same
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, content.getvalue(), compresslevel=9)
    return path
