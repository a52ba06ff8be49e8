"""Classes of all pixels of images of any size, by a network that sees windows of them."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from rsvl_jax.evaluation import placing
from rsvl_jax.evaluation.features import to_host
from rsvl_jax.evaluation.segmentation_crops import padded

_PART = 16  # images whose logits are in memory at a time
Place = tuple[int, int, int]  # image, top, left


@dataclass(frozen=True)
class Windows:
    """How an image is cut.

    Attributes:
      size: pixels a side of a window, a multiple of the patch; 0 for the image as a whole.
      stride: from one window to the next; logits are averaged where they overlap.
      patch: what a window's sides are multiples of. fill: uint8 [3], beyond the image.
    """

    size: int
    stride: int
    patch: int
    fill: np.ndarray

    def shape(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width of the windows of an image."""
        height, width = (-(-side // self.patch) * self.patch for side in image.shape[:2])
        return (self.size, self.size) if self.size else (height, width)

    def places(self, image: np.ndarray) -> Iterator[tuple[int, int]]:
        """Upper left corners; the last of a row or column ends with the image."""
        window = self.shape(image)
        rows, columns = (
            _starts(side, own, self.stride if self.size else own)
            for side, own in zip(image.shape[:2], window, strict=True)
        )
        return itertools.product(rows, columns)


def _starts(side: int, window: int, stride: int) -> list[int]:
    last = max(side - window, 0)
    return [*range(0, last, stride), last]


def classes(
    logits: Callable[[jax.Array], jax.Array],
    images: Sequence[np.ndarray],
    windows: Windows,
    *,
    batch: int,
    mesh: Mesh,
) -> list[np.ndarray]:
    """Class of every pixel of each image uint8 [H,W,3]: uint8 [H,W].

    logits: uint8 [B,h,w,3] over the mesh -> float32 [B,h,w,C], windows of one size. batch: windows
    at a time, rounded up to a multiple of the devices. Every process hands over the same images.
    """
    wide = [padded(image, windows.shape(image), windows.fill) for image in images]
    sums: list[np.ndarray | None] = [None] * len(wide)
    counts = [np.zeros(image.shape[:2], np.float32) for image in wide]
    by_shape: dict[tuple[int, int], list[Place]] = {}
    for number, image in enumerate(wide):
        places = [(number, *place) for place in windows.places(image)]
        by_shape.setdefault(windows.shape(image), []).extend(places)
    for (height, width), places in by_shape.items():
        cut = [(n, slice(y, y + height), slice(x, x + width)) for n, y, x in places]
        seen = _logits(logits, [wide[n][y, x] for n, y, x in cut], batch, mesh)
        for (n, y, x), value in zip(cut, seen, strict=True):
            total = sums[n]
            if total is None:
                total = sums[n] = np.zeros((*wide[n].shape[:2], value.shape[-1]), np.float32)
            total[y, x] += value
            counts[n][y, x] += 1
    return [
        _argmax(total, count, image)
        for total, count, image in zip(sums, counts, images, strict=True)
    ]


def parts(rows: int) -> Iterator[range]:
    """Rows 0, 1, ... as many at a time as `classes` should be given."""
    for start in range(0, rows, _PART):
        yield range(start, min(start + _PART, rows))


def _logits(
    logits: Callable[[jax.Array], jax.Array], cut: Sequence[np.ndarray], batch: int, mesh: Mesh
) -> Iterator[np.ndarray]:
    chunk = placing.chunk_size(1, 1, mesh)
    chunk *= -(-batch // chunk)
    for start in range(0, len(cut), chunk):
        rows = np.arange(start, start + chunk).clip(max=len(cut) - 1)
        placed = placing.put(np.stack([cut[row] for row in rows]), mesh, split=True)
        found = to_host({"": logits(placed)}, mesh)[""]
        yield from found[: len(cut) - start]


def _argmax(total: np.ndarray | None, count: np.ndarray, image: np.ndarray) -> np.ndarray:
    assert total is not None
    height, width = image.shape[:2]
    return (total / count[..., None])[:height, :width].argmax(axis=-1).astype(np.uint8)
