"""Several labels an image, in tables: a column `image`, and one of 0 and 1 a class.

MLRSNet: Images/airplane/airplane_00001.jpg and Labels/airplane.csv; any number of tables, anywhere
below the folder, with the same columns.
"""

import csv
import os
from collections.abc import Mapping, Sequence

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import folders, splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.folders import plain
from rsvl_jax.evaluation_sets.known import Known
from rsvl_jax.evaluation_sets.pictures import RULES, Pictures

_IMAGE = "image"


def read(known: Known, root: str, split: str, rule: str = "") -> Collection:
    """A split of images with several labels.

    Images without a row are left out and counted. Raises UserError for a row without image, a row
    that comes back, columns that differ, values other than 0 and 1, and what `splits` raises.
    """
    split = splits.spelt(split)
    classes, rows = _tables(known, root)
    names, _ = folders.images(root)
    places = {os.path.basename(name): name for name in names}
    for image in rows:
        if image not in places:
            raise UserError(f"{root!r}: the tables have {image!r}, which is not there")
    kept = sorted(places[image] for image in rows)
    labels = np.array([rows[os.path.basename(name)] for name in kept], bool)
    rule = splits.rule_of(known, root, False, split, rule)
    grouped = [os.path.dirname(name) for name in kept]
    chosen = splits.chosen(kept, grouped, known, root, split, rule)
    without = len(names) - len(kept)
    ids = tuple(kept[row] for row in chosen)
    return Collection(
        name=known.name,
        split=split,
        ids=ids,
        images=Pictures(root, ids),
        labels=labels[chosen],
        classes=classes,
        dropped={"images without a row in the tables": without} if without else {},
        protocol={**splits.told(known, root, split, rule), "pixels": RULES},
    )


def _tables(known: Known, root: str) -> tuple[tuple[str, ...], Mapping[str, Sequence[bool]]]:
    """Classes, and the row of each image."""
    paths = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(".csv")
    )
    if not paths:
        raise UserError(f"{root!r} has no .csv with a column {_IMAGE!r} and one a class")
    columns: tuple[str, ...] = ()
    found: dict[str, Sequence[bool]] = {}
    for path in paths:
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            own = tuple(name for name in table.fieldnames or () if name != _IMAGE)
            columns = columns or _known_columns(known, own, path)
            if _IMAGE not in (table.fieldnames or ()) or set(own) != set(columns):
                raise UserError(f"{path!r} has not the columns {_IMAGE!r} and the classes' own")
            for row in table:
                _add(found, row, columns, path)
    return known.classes or columns, found


def _known_columns(known: Known, own: Sequence[str], path: str) -> tuple[str, ...]:
    """The columns in the order of the classes."""
    if not known.classes:
        return tuple(own)
    named = {plain(name): name for name in own}
    for name in known.classes:
        if plain(name) not in named:
            raise UserError(f"{path!r} has no column {name!r}")
    if len(own) != len(known.classes):
        extra = sorted(set(named) - {plain(name) for name in known.classes})
        raise UserError(f"{path!r}: the column {extra[0]!r} is no class of {known.title}")
    return tuple(named[plain(name)] for name in known.classes)


def _add(
    found: dict[str, Sequence[bool]],
    row: Mapping[str, str | None],
    columns: Sequence[str],
    path: str,
) -> None:
    image = str(row[_IMAGE])
    if image in found:
        raise UserError(f"{path!r} has {image!r} once more")
    values = [(row[name] or "").strip() for name in columns]
    for name, value in zip(columns, values, strict=True):
        if value not in ("0", "1"):
            raise UserError(f"{path!r}: {name!r} of {image!r} is {value!r}: 0 or 1 is wanted")
    found[image] = [value == "1" for value in values]
