"""SkyScript's benchmark layout: NAME_img_txt_pairs_SPLIT.csv beside classnames.txt.

Columns are filepath and label; a label is the number of a line of classnames.txt, or its text.
Paths are below the folder of the CSV, or below the one that holds it, or that one's.
"""

import csv
import glob
import os
from collections.abc import Sequence

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.folders import plain
from rsvl_jax.evaluation_sets.pictures import RULES, Pictures

_CLASSES = "classnames.txt"


def is_there(root: str) -> bool:
    """Whether a folder is of this layout."""
    return bool(glob.glob(os.path.join(glob.escape(root), "*_img_txt_pairs_*.csv")))


def read(name: str, root: str, split: str) -> Collection:
    """A split; "all" is the one CSV that there is. Raises UserError for what is wrong."""
    path = _file(root, split)
    classes = _classes(root)
    rows = _rows(path)
    base = _base(root, rows[0]["filepath"])
    names = [row["filepath"] for row in rows]
    if len(set(names)) < len(names):
        again = next(n for place, n in enumerate(names) if n in names[:place])
        raise UserError(f"{path!r} lists {again!r} more than once")
    return Collection(
        name=name,
        split=split,
        ids=tuple(names),
        images=Pictures(base, names),
        labels=np.array([_label(row["label"], classes, path) for row in rows], np.int32),
        classes=classes,
        protocol={"split_rule": os.path.basename(path), "pixels": RULES},
    )


def _file(root: str, split: str) -> str:
    found = sorted(glob.glob(os.path.join(glob.escape(root), "*_img_txt_pairs_*.csv")))
    if split == splits.ALL and len(found) == 1:
        return found[0]
    for path in found:
        if path.endswith(f"_{splits.spelt(split)}.csv"):
            return path
    there = ", ".join(map(os.path.basename, found)) or "none"
    raise UserError(f"{root!r} has no *_img_txt_pairs_{split}.csv, but {there}")


def _classes(root: str) -> tuple[str, ...]:
    path = os.path.join(root, _CLASSES)
    try:
        with open(path, encoding="utf-8") as file:
            return tuple(line.strip() for line in file if line.strip())
    except OSError as error:
        raise UserError(f"no {path!r}: the names of the classes, one a line") from error


def _rows(path: str) -> Sequence[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for column in ("filepath", "label"):
        if not rows or column not in rows[0]:
            raise UserError(f"{path!r} has no rows with a column {column!r}")
    return rows


def _base(root: str, first: str) -> str:
    above = os.path.dirname(os.path.abspath(root))
    for folder in (root, above, os.path.dirname(above)):
        if os.path.exists(os.path.join(folder, first)):
            return folder
    raise UserError(f"the image {first!r} is neither below {root!r} nor beside it")


def _label(text: str, classes: Sequence[str], path: str) -> int:
    if text.isdigit() and int(text) < len(classes):
        return int(text)
    for number, name in enumerate(classes):
        if plain(name) == plain(text):
            return number
    raise UserError(f"{path!r}: the label {text!r} is not in {_CLASSES}")
