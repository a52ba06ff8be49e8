"""Masks and patch tokens of a collection at the model's size, for tasks on pixels."""

from collections.abc import Iterator

import cv2
import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluation.features import extract
from rsvl_jax.evaluation_sets.collection import Collection, Rows

FIT = "resize"  # a mask moves along with its image
HOW = "images linearly, masks by the nearest pixel, both to the model's square"


def masks(of: Collection, side: int, rows: range) -> np.ndarray:
    """uint8 [n, side, side] of some rows. Raises UserError where a mask is not of its image's
    size, and where the data have none."""
    if of.masks is None:
        raise UserError(f"{of.name} {of.split} has no masks")
    found = np.empty((len(rows), side, side), np.uint8)
    for place, row in enumerate(rows):
        mask, image = of.masks[row], of.images[row]
        if mask.shape != image.shape[:2]:
            raise UserError(
                f"{of.name}: the mask of {of.ids[row]!r} is {mask.shape}, its image "
                f"{image.shape[:2]} pixels"
            )
        found[place] = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
    return found


def parts(count: int, most: int) -> Iterator[range]:
    """Rows 0 to count, `most` at a time: patch tokens of all would not fit into memory."""
    for start in range(0, count, most):
        yield range(start, min(start + most, count))


def tokens(subject: Subject, of: Collection, rows: range, name: str) -> np.ndarray:
    """Patch tokens of some rows, float32 [n,N,D]; `name`: "patches" or "text_patches"."""

    def encode(pixels):
        return {name: subject.encoders.images(pixels)[name]}

    images = _Some(subject.images(of, FIT), rows)
    found = extract(encode, images, batch_size=subject.batch_size, mesh=subject.mesh)
    return found[name]


class _Some:
    def __init__(self, images: Rows, rows: range):
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> np.ndarray:
        return self._images[self._rows[row]]
