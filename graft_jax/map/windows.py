"""Overlapping windows over an image and the weights that blend them: plain arrays."""

from dataclasses import dataclass

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.segmentation import upsampling
from rsvl_jax.rasters.windows import starts


def weights(length: int, size: int, first: np.ndarray) -> np.ndarray:
    """Weight of every window at each of its pixels along one axis, float64 [n, size].

    Raised cosines, divided by their sum over the windows of a pixel: a partition of unity. In two
    dimensions the weight is the product over the axes, which is one, too.
    """
    bell = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    total = np.zeros(length)
    for start in first:
        total[start : start + size] += bell
    return np.stack([bell / total[start : start + size] for start in first])


@dataclass(frozen=True)
class Axis:
    """The windows along one axis of an image.

    Attributes:
      length: pixels of the image · size: pixels of a window.
      starts: first pixel of each, int [n].
      spread: float32 [n, size, g]: what the values of a window's g cells give to its pixels,
        interpolated linearly between the centres of the cells and weighted.
    """

    length: int
    size: int
    starts: np.ndarray
    spread: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def over(self, start: int, stop: int) -> range:
        """The windows that reach into pixels [start, stop)."""
        first = np.searchsorted(self.starts + self.size, start, side="right")
        return range(int(first), int(np.searchsorted(self.starts, stop, side="left")))

    def part(self, window: int, start: int, stop: int) -> tuple[slice, slice]:
        """Pixels of [start, stop) in a window: counted from `start`, and from the window's own."""
        origin = int(self.starts[window])
        low, high = max(start, origin), min(stop, origin + self.size)
        return slice(low - start, high - start), slice(low - origin, high - origin)


def axis(length: int, size: int, stride: int, cells: int) -> Axis:
    """The windows of `size` pixels, `cells` cells each, every `stride` pixels of `length`."""
    first = starts(length, size, stride)
    blend = weights(length, size, first)[:, :, None] * upsampling(cells, size)
    return Axis(length, size, first, blend.astype(np.float32))


@dataclass(frozen=True)
class Layout:
    """The windows over an image: `rows` and `columns` of them."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def corner(self, window: int) -> tuple[int, int]:
        """Row and column of the upper left pixel of a window, counted row by row."""
        row, column = divmod(window, len(self.columns))
        return int(self.rows.starts[row]), int(self.columns.starts[column])


def layout(height: int, width: int, *, size: int, cells: int, overlap: float) -> Layout:
    """Square windows of `size` pixels that overlap by a share of their side, `cells` across each.

    Raises UserError for an image smaller than a window, or an overlap outside [0, 0.9].
    """
    if not 0 <= overlap <= 0.9:
        raise UserError(f"overlap {overlap:g} is not from 0 to 0.9: 0.5 blends smoothly")
    if min(height, width) < size:
        raise UserError(
            f"the image has {width} x {height} pixels, the model sees {size} x {size} at once: "
            "give a larger one, or a finer --gsd if it is georeferenced"
        )
    stride = max(1, round(size * (1 - overlap)))
    return Layout(axis(height, size, stride, cells), axis(width, size, stride, cells))
