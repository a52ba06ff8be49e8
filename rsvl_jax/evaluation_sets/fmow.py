"""fMoW-rgb as it is published: train/airport/airport_0/airport_0_1_rgb.jpg and a JSON beside it.

The JSON says where the object lies ("bounding_boxes", [x, y, width, height]). Files _msrgb, made of
the multispectral bands, are left alone.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import folders, splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.known import Known
from rsvl_jax.evaluation_sets.pictures import RULES, Pictures

_ENDING = "_rgb.jpg"


@dataclass(frozen=True)
class _Objects:
    """Images cut to their objects' boxes."""

    images: Pictures

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> np.ndarray:
        image = self.images[row]
        left, top, wide, high = _box(os.path.join(self.images.root, self.images.names[row]))
        cut = image[max(top, 0) : top + high, max(left, 0) : left + wide]
        if not cut.size:
            raise UserError(f"{self.images.names[row]!r}: the box lies outside of the image")
        return np.ascontiguousarray(cut)


def _box(image: str) -> tuple[int, int, int, int]:
    path = os.path.splitext(image)[0] + ".json"
    try:
        with open(path, encoding="utf-8") as file:
            left, top, wide, high = json.load(file)["bounding_boxes"][0]["box"]
        return int(left), int(top), int(wide), int(high)
    except OSError as error:
        raise UserError(f"{image!r} has no {os.path.basename(path)} beside it") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path!r} has no 'bounding_boxes' ({error!r})") from error


def read(known: Known, root: str, split: str, rule: str = "", crop: bool = False) -> Collection:
    """The split's folder. crop: to the object, as the JSON says. Images of one place are one block.

    Raises UserError for no images, a folder that is no class, and images outside of their folders
    (the published test images are: their ground truth says where they belong).
    """
    split, own = splits.spelt(split), _split_folders(root, split)
    names = [
        os.path.join(folder, name)
        for folder in own
        for name in folders.images(os.path.join(root, folder))[0]
        if name.endswith(_ENDING)
    ]
    if not names:
        raise UserError(f"{root!r} has no {split}/CLASS/CLASS_0/CLASS_0_0{_ENDING}")
    for name in names:
        if name.count(os.sep) != 3:
            raise UserError(
                f"{name!r} is not in {split}/CLASS/CLASS_0: the mapping file of the ground truth "
                "says of which class it is; make its folders"
            )
    labels = [name.split(os.sep)[1] for name in names]
    rule = rule or splits.OWN
    splits.rule_of(known, root, True, split, rule)
    rows = splits.chosen(names, labels, known, root, split, rule)
    return _collected(known, root, split, [names[row] for row in rows], rule, crop)


def _split_folders(root: str, split: str) -> list[str]:
    wanted = splits.SPLITS if split == splits.ALL else (split,)
    return [name for name in wanted if os.path.isdir(os.path.join(root, name))]


def _collected(
    known: Known, root: str, split: str, names: Sequence[str], rule: str, crop: bool
) -> Collection:
    ids = tuple(names)
    images = Pictures(root, ids)
    classes, labels = folders.labelled(known, root, [name.split(os.sep)[1] for name in names])
    places = [os.path.dirname(name) for name in names]
    return Collection(
        name=known.name,
        split=split,
        ids=ids,
        images=_Objects(images) if crop else images,
        labels=labels,
        classes=classes,
        blocks=np.unique(places, return_inverse=True)[1].astype(np.int64),
        protocol={
            **splits.told(known, root, split, rule),
            "pixels": RULES,
            "images": "cut to the object's box" if crop else "whole, the boxes are not used",
        },
    )
