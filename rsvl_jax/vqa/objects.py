"""Things in a mask: its connected parts, with what questions ask of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

EIGHT = np.ones((3, 3), bool)  # pixels that touch by a corner belong together


@dataclass(frozen=True)
class Thing:
    """A connected part of a mask.

    Attributes:
      rows, columns: its box, slices of the image.
      mask: bool, its pixels in the box.
      metres: a pixel's side, or None where the ground is not known.
    """

    rows: slice
    columns: slice
    mask: np.ndarray
    metres: float | None = None

    @property
    def pixels(self) -> int:
        """How many it has."""
        return int(np.count_nonzero(self.mask))

    @property
    def area(self) -> float:
        """Square metres; pixels where the ground is not known."""
        return self.pixels * (self.metres or 1.0) ** 2

    @property
    def centre(self) -> tuple[float, float]:
        """Row and column of the middle of its box."""
        return (
            (self.rows.start + self.rows.stop - 1) / 2,
            (self.columns.start + self.columns.stop - 1) / 2,
        )

    @property
    def fill(self) -> float:
        """Share of its box that it fills: 1 of a rectangle along the axes, pi/4 of a disc."""
        return self.pixels / self.mask.size

    @property
    def sides(self) -> float:
        """The shorter side of its box over the longer one."""
        return min(self.mask.shape) / max(self.mask.shape)


def things(mask: np.ndarray, *, least: int = 1, metres: float | None = None) -> list[Thing]:
    """Connected parts of bool [H,W] with at least so many pixels, in reading order."""
    labels, count = ndimage.label(mask, EIGHT)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    return [
        Thing(rows, columns, labels[rows, columns] == number, metres)
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1)
        if sizes[number] >= least
    ]


def union(some: Sequence[Thing], shape: tuple[int, int]) -> np.ndarray:
    """The pixels of all of them, bool [H,W]."""
    found = np.zeros(shape, bool)
    for thing in some:
        found[thing.rows, thing.columns] |= thing.mask
    return found


def gap(one: Thing, other: Thing) -> float:
    """Pixels between the boxes of two things; 0 where they touch or overlap."""
    rows = max(one.rows.start - other.rows.stop, other.rows.start - one.rows.stop, 0)
    columns = max(one.columns.start - other.columns.stop, other.columns.start - one.columns.stop, 0)
    return float(np.hypot(rows, columns))
