"""Images with a mask each: folders images and masks whose files have the same names.

A mask is a grey or palette image whose values are classes, or an RGB image whose colours are. A
table classes.csv says which: value (or r,g,b) and name, one class a line, in order; values that are
not in it are not scored where `ignore` names them, and an error else.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets.collection import IGNORE, Collection
from rsvl_jax.evaluation_sets.pictures import RULES, SUFFIXES, Pictures
from rsvl_jax.evaluation_sets.splits import SPLITS

_PAIRS = (("images", "masks"), ("img", "mask"), ("image", "label"), ("images", "labels"))
_TABLE = "classes.csv"


@dataclass(frozen=True)
class Masks:
    """Masks of a folder: row -> uint8 [H,W], class or IGNORE.

    Attributes:
      values: of each class, an int or (r, g, b). ignored: values that are not scored.
    """

    root: str
    names: Sequence[str]
    values: tuple[int | tuple[int, int, int], ...]
    ignored: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> np.ndarray:
        path = os.path.join(self.root, self.names[row])
        try:
            with Image.open(path) as image:
                coloured = isinstance(self.values[0], tuple)
                pixels = np.asarray(image.convert("RGB") if coloured else image)
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{path!r} cannot be decoded ({error}): mend or delete it") from error
        if pixels.ndim != (3 if coloured else 2):
            raise UserError(f"{path!r} has {pixels.ndim} axes: a mask has one value a pixel")
        return self._classes(pixels, path)

    def _classes(self, pixels: np.ndarray, path: str) -> np.ndarray:
        codes = _code(pixels)
        found = np.full(codes.shape, IGNORE, np.uint8)
        left = ~np.isin(codes, [_code(np.asarray(value)) for value in self.ignored])
        for number, value in enumerate(self.values):
            own = codes == _code(np.asarray(value))
            found[own], left[own] = number, False
        if left.any():
            value = pixels[left][0]
            raise UserError(f"{path!r} holds the value {value.tolist()}, which is no class")
        return found


def _code(pixels: np.ndarray) -> np.ndarray:
    """Colours as numbers; values as they are."""
    wide = pixels.astype(np.int64)
    return wide if wide.ndim in (0, 2) else wide[..., 0] * 65536 + wide[..., 1] * 256 + wide[..., 2]


def is_there(root: str) -> bool:
    """Whether a folder, or one of its splits, is of this layout."""
    folders = (root, *(os.path.join(root, split) for split in (*SPLITS, "validation")))
    return any(
        all(os.path.isdir(os.path.join(folder, name)) for name in pair)
        for folder in folders
        for pair in _PAIRS
    )


def read(
    name: str,
    root: str,
    split: str = "",
    classes: Sequence[str] = (),
    ignore: Sequence[int] = (IGNORE,),
) -> Collection:
    """The images and masks of ROOT/SPLIT, or of ROOT itself.

    classes: names of the values 0, 1, ...; () are read from classes.csv. Raises UserError, one
    line, for an image without mask, a mask without image, or sizes that differ.
    """
    own = os.path.join(root, split)
    folder = own if split and os.path.isdir(own) else root
    images, masks = _folders(folder)
    pairs = _pairs(images, masks)
    names, values = _table(folder, root) if not classes else (tuple(classes), None)
    return Collection(
        name=name,
        split=split or "all",
        ids=tuple(image for image, _ in pairs),
        images=Pictures(images, [image for image, _ in pairs]),
        masks=Masks(
            masks,
            [mask for _, mask in pairs],
            tuple(range(len(names))) if values is None else values,
            tuple(ignore),
        ),
        pixel_classes=names,
        protocol={"split_rule": "the folder's images", "pixels": RULES, "ignore": list(ignore)},
    )


def _folders(root: str) -> tuple[str, str]:
    for pair in _PAIRS:
        images, masks = (os.path.join(root, name) for name in pair)
        if os.path.isdir(images) and os.path.isdir(masks):
            return images, masks
    known = "; ".join(" and ".join(pair) for pair in _PAIRS)
    raise UserError(f"{root!r} has no folders of images and masks: {known}")


def _pairs(images: str, masks: str) -> list[tuple[str, str]]:
    """Names of images and masks with the same stem, sorted."""
    found = [_by_stem(images), _by_stem(masks)]
    for mine, other, what in ((0, 1, "mask"), (1, 0, "image")):
        alone = sorted(set(found[mine]) - set(found[other]))
        if alone:
            path = os.path.join((images, masks)[mine], found[mine][alone[0]])
            raise UserError(f"{path!r} has no {what} ({len(alone)} such files)")
    if not found[0]:
        raise UserError(f"{images!r} has no images ({', '.join(SUFFIXES)})")
    return [(found[0][stem], found[1][stem]) for stem in sorted(found[0])]


def _by_stem(folder: str) -> dict[str, str]:
    names = [name for name in os.listdir(folder) if name.lower().endswith(SUFFIXES)]
    stems = {}
    for name in names:
        stem = os.path.splitext(name)[0]
        for ending in ("_mask", "_label", "_img", "_image"):
            stem = stem.removesuffix(ending)
        stems[stem] = name
    return stems


def _table(folder: str, root: str) -> tuple[tuple[str, ...], tuple]:
    for place in (folder, root):
        path = os.path.join(place, _TABLE)
        if os.path.isfile(path):
            with open(path, encoding="utf-8", newline="") as file:
                rows = [row for row in csv.reader(file) if row]
            return _parsed(rows, path)
    raise UserError(f"no {os.path.join(root, _TABLE)!r}: a value (or r,g,b) and a name a line")


def _parsed(rows: list[list[str]], path: str) -> tuple[tuple[str, ...], tuple]:
    try:
        values = [
            int(row[0]) if len(row) == 2 else (int(row[0]), int(row[1]), int(row[2]))
            for row in rows
        ]
        names = tuple(row[-1].strip() for row in rows)
    except (ValueError, IndexError) as error:
        raise UserError(f"{path!r}: each line is value,name or r,g,b,name ({error})") from error
    if len({type(value) for value in values}) != 1 or len(set(values)) < len(values):
        raise UserError(f"{path!r}: values must differ, and all be numbers or all colours")
    return names, tuple(values)
