"""AIR-SLT, for semantic localisation: anno.json beside or above a folder of large images.

[{"jpg_name": "20.jpg", "caption": "...", "points": [[[x, y], ...], ...]}, ...]
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets.pictures import SUFFIXES


@dataclass(frozen=True)
class Sought:
    """A text that is looked for. image: path; regions: polygons [K, 2] of columns and rows."""

    image: str
    text: str
    regions: tuple[np.ndarray, ...]


def read(root: str) -> list[Sought]:
    """All texts. Raises UserError, one line, for an image or regions that are missing."""
    path = _file(root)
    try:
        with open(path, encoding="utf-8") as file:
            entries = json.load(file)
        if not isinstance(entries, list) or not entries:
            raise ValueError("no list of entries")
    except ValueError as error:
        raise UserError(f"{path!r} is no annotation file ({error})") from error
    places = {
        name: os.path.join(parent, name)
        for parent, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(SUFFIXES)
    }
    return [_sought(entry, number, places, path) for number, entry in enumerate(entries)]


def _file(root: str) -> str:
    for folder in (root, os.path.join(root, "annotations")):
        path = os.path.join(folder, "anno.json")
        if os.path.isfile(path):
            return path
    raise UserError(f"{root!r} has no anno.json, nor annotations/anno.json")


def _sought(entry: Any, number: int, places: Mapping[str, str], path: str) -> Sought:
    try:
        name, text = str(entry["jpg_name"]), str(entry["caption"])
        regions = tuple(np.array(points, np.float64) for points in entry["points"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path!r}: entry {number} is damaged ({error!r})") from error
    if not regions or any(r.ndim != 2 or r.shape[1] != 2 or len(r) < 3 for r in regions):
        raise UserError(f"{path!r}: entry {number} has no polygon of three points or more")
    if name not in places:
        raise UserError(f"{path!r}: entry {number} is about {name!r}, which is not there")
    return Sought(places[name], text, regions)
