"""Things in a mask: its connected parts, with what questions ask of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from rsvl_jax.errors import UserError

MOST = 50_000  # things of one name; more are noise, and take minutes
EIGHT = np.ones((3, 3), bool)  # pixels that touch by a corner belong together


@dataclass(frozen=True, eq=False)
class Thing:
    """A connected part of a mask; it equals itself alone.

    Attributes:
      rows, columns: its box, slices of the image.
      labels: int32, numbers of the parts in the box, a view: boxes overlap, and copies of
        those of many long thin parts would not fit into memory.
      number: its own.
      pixels: how many it has.
      metres: a pixel's side, or None where the ground is not known.
    """

    rows: slice
    columns: slice
    labels: np.ndarray
    number: int
    pixels: int
    metres: float | None = None

    @property
    def mask(self) -> np.ndarray:
        """Its pixels in the box, bool."""
        return self.labels == self.number

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
        return self.pixels / self.labels.size

    @property
    def sides(self) -> float:
        """The shorter side of its box over the longer one."""
        return min(self.labels.shape) / max(self.labels.shape)


def things(mask: np.ndarray, *, least: int = 1, metres: float | None = None) -> list[Thing]:
    """Connected parts of bool [H,W] with at least so many pixels, in reading order.

    Raises UserError where there are more than MOST.
    """
    labels, count = ndimage.label(mask, EIGHT)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    large = sizes >= least
    large[0] = False  # what is not in the mask
    if np.count_nonzero(large) > MOST:
        raise UserError(
            f"{np.count_nonzero(large)} things are more than {MOST}: take larger ones, with --least"
        )
    labels = (np.cumsum(large, dtype=np.int32) * large)[labels]
    return [
        Thing(box[0], box[1], labels[box], number, int(pixels), metres)
        for number, (box, pixels) in enumerate(
            zip(ndimage.find_objects(labels), sizes[large], strict=True), start=1
        )
    ]


def union(some: Sequence[Thing], shape: tuple[int, int]) -> np.ndarray:
    """The pixels of all of them, bool [H,W]."""
    found = np.zeros(shape, bool)
    for thing in some:
        found[thing.rows, thing.columns] |= thing.mask
    return found


def boxes(some: Sequence[Thing]) -> np.ndarray:
    """First row, row after the last, first column, column after the last, int [n,4]."""
    found = [(t.rows.start, t.rows.stop, t.columns.start, t.columns.stop) for t in some]
    return np.array(found, np.int64).reshape(-1, 4)


def gaps(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Squares of the pixels between boxes [n,4] and others [m,4], [n,m]; 0 where they meet."""
    top, bottom, left, right = some.T[..., None]
    rows = np.maximum(np.maximum(top - others[:, 1], others[:, 0] - bottom), 0)
    columns = np.maximum(np.maximum(left - others[:, 3], others[:, 2] - right), 0)
    return rows * rows + columns * columns
