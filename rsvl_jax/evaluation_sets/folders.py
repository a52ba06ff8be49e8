"""Images in one folder a class, maybe inside of folders train, val and test."""

import os
import re
from collections.abc import Sequence

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.known import Known
from rsvl_jax.evaluation_sets.pictures import RULES, SUFFIXES, Bands, Pictures

_SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")


def read(known: Known, root: str, split: str, rule: str = "", added: int = 0) -> Collection:
    """A split of a data set of class folders, see `splits` for the rules.

    added: what was added to all values of a sensor. Raises UserError for no images, a folder that
    is no class, and what `splits` raises.
    """
    split, root = splits.spelt(split), inner(root)
    has_own = any(os.path.isdir(os.path.join(root, name)) for name in _SPLIT_FOLDERS)
    names, others = images(root, depth=2 if has_own else 1)
    if not names:
        raise UserError(
            f"{root!r} has no images in folders of classes ({', '.join(SUFFIXES)}): give the "
            f"folder of {known.title}"
        )
    folders = [name.split(os.sep)[-2] for name in names]
    classes, labels = labelled(known, root, folders)
    rule = splits.rule_of(known, root, has_own, split, rule)
    rows = splits.chosen(names, folders, known, root, split, rule)
    chosen = tuple(names[row] for row in rows)
    return Collection(
        name=known.name,
        split=split,
        ids=chosen,
        images=Pictures(root, chosen, known.sensor, added),
        labels=labels[rows],
        classes=classes,
        bands=Bands(root, chosen, len(known.bands)) if _has_bands(known, chosen) else None,
        band_names=known.bands if _has_bands(known, chosen) else (),
        dropped={"files that are no images": others} if others else {},
        protocol={
            **splits.told(known, root, split, rule),
            "images_in_all": len(names),
            "images_expected": known.images,
            "pixels": RULES,
        },
    )


def _has_bands(known: Known, names: Sequence[str]) -> bool:
    return bool(known.bands) and names[0].lower().endswith((".tif", ".tiff"))


def inner(root: str) -> str:
    """The folder itself, or the only folder inside of it, as archives unpack."""
    if not os.path.isdir(root):
        raise UserError(f"no folder {root!r}")
    inside = [entry for entry in os.scandir(root) if not entry.name.startswith(".")]
    folders = [entry for entry in inside if entry.is_dir() and entry.name != "splits"]
    images = any(entry.name.lower().endswith(SUFFIXES) for entry in inside)
    if len(folders) != 1 or images or folders[0].name.lower() in _SPLIT_FOLDERS:
        return root
    nested = any(entry.is_dir() for entry in os.scandir(folders[0].path))
    return inner(folders[0].path) if nested else root


def images(root: str, depth: int = 0) -> tuple[list[str], int]:
    """Paths below `root` of the images that lie so many folders deep, sorted; and how many other
    files there are."""
    found, others = [], 0
    for parent, inside, names in os.walk(root):
        inside.sort()
        below = os.path.relpath(parent, root)
        level = 0 if below == "." else below.count(os.sep) + 1
        if level < depth:
            continue
        # Archives made on macOS have a file ._x.jpg beside each x.jpg.
        kept = [n for n in names if n.lower().endswith(SUFFIXES) and not n.startswith(".")]
        found += [os.path.normpath(os.path.join(below, name)) for name in kept]
        others += len(names) - len(kept)
    return sorted(found), others


def labelled(known: Known, root: str, folders: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Classes, and the label of each image."""
    if not known.classes:
        classes = tuple(sorted(set(folders)))
        place = {name: number for number, name in enumerate(classes)}
        return classes, np.array([place[name] for name in folders], np.int32)
    place = {plain(name): number for number, name in enumerate(known.classes)}
    place |= {plain(alias): place[plain(name)] for alias, name in known.aliases.items()}
    for folder in sorted(set(folders)):
        if plain(folder) not in place:
            raise UserError(
                f"{root!r}: the folder {folder!r} is no class of {known.title}; move it away"
            )
    return known.classes, np.array([place[plain(name)] for name in folders], np.int32)


def plain(name: str) -> str:
    """A name without what releases differ in: "Dense Residential" is "denseresidential"."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
