"""Stored cases: what an original model of other people computed from given weights and inputs.

A case is one .npz: "told", JSON of its config.json and of the names, types and shapes of arrays;
and the arrays' bytes, of its weights, inputs, outputs, losses and gradients.
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
        told = json.loads(str(file["told"]))
        groups = {group: _unpack(file[group], told[group]) for group in ARRAYS}
    return Case(config=told["config"], **groups)


def write(name: str, case: Case) -> Path:
    """Stores a case; the same case gives the same bytes."""
    told = {"config": case.config}
    packed = {}
    for group in ARRAYS:
        arrays = getattr(case, group)
        told[group] = [[key, arrays[key].dtype.str, arrays[key].shape] for key in sorted(arrays)]
        packed[group] = _pack([arrays[key] for key in sorted(arrays)])
    packed["told"] = np.array(json.dumps(told, sort_keys=True))
    path = FOLDER / f"{name}.npz"
    with zipfile.ZipFile(path, "w") as file:
        for key, value in packed.items():
            content = io.BytesIO()
            np.save(content, value)
            entry = zipfile.ZipInfo(f"{key}.npy")  # a date of its own, always the same
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, content.getvalue(), compresslevel=9)
    return path


def _pack(arrays: list[np.ndarray]) -> np.ndarray:
    """Bytes of all arrays one after the other: an entry for each would be a third of the file."""
    return np.frombuffer(b"".join(value.tobytes() for value in arrays), np.uint8)


def _unpack(content: np.ndarray, told: list) -> Arrays:
    found, start = {}, 0
    for name, dtype, shape in told:
        end = start + np.dtype(dtype).itemsize * int(np.prod(shape))
        found[name] = content[start:end].view(dtype).reshape(shape).copy()
        start = end
    return found
