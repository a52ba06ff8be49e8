"""Batches of windows of an image, read ahead of the model."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np

from graft_jax.map.windows import Layout

_AHEAD = 2  # batches read while the model is at work


class Image(Protocol):
    """Pixels by window."""

    @property
    def height(self) -> int: ...

    @property
    def width(self) -> int: ...

    def read(
        self, row: int, column: int, height: int, width: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A window, square without a width: RGB uint8 [h, w, 3], 0 where not valid; valid bool."""


class Batch(NamedTuple):
    """Windows of a layout, by number, row by row.

    pixels uint8 [B, size, size, 3], valid bool [B, size, size]: B is always the same, and what is
    beyond the windows is black and not valid.
    """

    windows: range
    pixels: np.ndarray
    valid: np.ndarray


def batches(image: Image, places: Layout, batch_size: int) -> Iterator[Batch]:
    """All windows in order. A thread reads ahead: a raster serves one reader at a time."""
    size = places.rows.size

    def read(windows: range) -> Batch:
        pixels = np.zeros((batch_size, size, size, 3), np.uint8)
        valid = np.zeros((batch_size, size, size), bool)
        for slot, window in enumerate(windows):
            pixels[slot], valid[slot] = image.read(*places.corner(window), size)
        return Batch(windows, pixels, valid)

    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1) as pool:
        for first in range(0, len(places), batch_size):
            windows = range(first, min(first + batch_size, len(places)))
            waiting.append(pool.submit(read, windows))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
