"""Similarity of every pixel of an image of any size to texts, window by window.

A window's patch-text cosines are a few hundred numbers, so they are kept for the rows of windows
that still reach into what is to come, and pixels are blended from them block by block. Memory is
then a block, a batch of windows, and a few numbers a column of windows: it does not grow with the
height of the image, and hardly with its width. A pixel's value depends on the windows alone, not
on the blocks.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from graft_jax.map.batches import Image, batches
from graft_jax.map.windows import Layout, layout
from graft_jax.towers import TextImageModel
from rsvl_jax.errors import UserError

BLOCK = 512  # pixels, the side of what is blended and written at once
LEVELS = ("pixels", "image")
_THIN = 1e-6  # least weight that counts as seen


@dataclass(frozen=True)
class Block:
    """A part of the map.

    Attributes:
      row, column: its upper left pixel.
      scores: cosines float32 [Q, h, w], NaN where the image is not valid.
    """

    row: int
    column: int
    scores: np.ndarray


@dataclass(frozen=True)
class _Row:
    """A row of windows: `sums` [n, g, g, Q + 1] are each cell's cosines times the share of it that
    is valid, then that share; `valid` are bits of [n, size, size], or None where all are."""

    number: int
    sums: np.ndarray
    valid: np.ndarray | None


@dataclass(frozen=True)
class Scan:
    """What is asked of an image.

    Attributes:
      vectors: of the texts, float32 [Q, E], unit.
      level: "pixels" compares patches with them, "image" whole windows.
      overlap: of neighbouring windows, a share of their side.
      batch_size: windows at a time.
    """

    vectors: np.ndarray
    level: str = "pixels"
    overlap: float = 0.5
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise UserError(f"unknown level {self.level!r}: choose one of {LEVELS}")
        if self.batch_size < 1:
            raise UserError(f"batch size {self.batch_size} is below 1")

    def layout(self, model: TextImageModel, image: Image) -> Layout:
        """Where the windows lie. Raises UserError for an image smaller than a window."""
        cells = model.image_size // model.patch_size if self.level == "pixels" else 1
        return layout(
            image.height, image.width, size=model.image_size, cells=cells, overlap=self.overlap
        )


class Scanner(Protocol):
    """From an image to the blocks of its map, such as `blocks`."""

    def __call__(
        self,
        model: TextImageModel,
        image: Image,
        scan: Scan,
        *,
        done: Callable[[int], object],
    ) -> Iterator[Block]: ...


def blocks(
    model: TextImageModel,
    image: Image,
    scan: Scan,
    *,
    side: int = BLOCK,
    done: Callable[[int], object] = lambda windows: None,
) -> Iterator[Block]:
    """The map in blocks of `side` pixels, row by row; `done` hears of windows as they pass.

    Cells count by the share of them that is valid, so that what lies under nodata does not reach
    the pixels beside it.
    """
    places = scan.layout(model, image)
    height, width = image.height, image.width
    kept: deque[_Row] = deque()
    top = 0
    for row in _rows(model, image, scan, places, done):
        kept.append(row)
        last = row.number + 1 == len(places.rows)
        final = height if last else int(places.rows.starts[row.number + 1])
        while top < height and min(top + side, height) <= final:
            bottom = min(top + side, height)
            for left in range(0, width, side):
                yield _blend(kept, places, (top, bottom), (left, min(left + side, width)))
            top = bottom
            while kept and places.rows.starts[kept[0].number] + model.image_size <= top:
                kept.popleft()


def dense(model: TextImageModel, image: Image, scan: Scan) -> np.ndarray:
    """The whole map at once, float32 [Q, H, W]."""
    found = np.empty((len(scan.vectors), image.height, image.width), np.float32)
    for block in blocks(model, image, scan):
        height, width = block.scores.shape[1:]
        found[:, block.row : block.row + height, block.column : block.column + width] = block.scores
    return found


def _rows(
    model: TextImageModel,
    image: Image,
    scan: Scan,
    places: Layout,
    done: Callable[[int], object],
) -> Iterator[_Row]:
    """Rows of windows from batches of windows."""
    across = len(places.columns)
    sums: list[np.ndarray] = []
    valid: list[np.ndarray] = []
    number = 0
    for windows, pixels, seen in batches(image, places, scan.batch_size):
        count = len(windows)
        sums.extend(_sums(model, scan, pixels, seen)[:count])
        valid.extend(seen[:count])
        done(count)
        while len(sums) >= across:
            whole = np.stack(valid[:across])
            bits = None if whole.all() else np.packbits(whole, axis=-1)
            yield _Row(number, np.stack(sums[:across]), bits)
            del sums[:across], valid[:across]
            number += 1


def _sums(model: TextImageModel, scan: Scan, pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Cosines times shares, and shares, float32 [B, g, g, Q + 1]; nothing is asked of no pixel."""
    batch, size = valid.shape[:2]
    grid = size // model.patch_size if scan.level == "pixels" else 1
    cell = size // grid
    share = valid.reshape(batch, grid, cell, grid, cell).mean(axis=(2, 4), dtype=np.float32)
    if not valid.any():
        return np.zeros((batch, grid, grid, len(scan.vectors) + 1), np.float32)
    embedded = model.images(pixels)[scan.level]
    cosines = np.asarray(_cosines(embedded, scan.vectors)).reshape(batch, grid, grid, -1)
    if not np.isfinite(cosines).all():
        raise UserError("the model's embeddings hold NaN or infinite values: use other weights")
    return np.concatenate([cosines * share[..., None], share[..., None]], axis=-1)


@jax.jit
def _cosines(embedded: jax.Array, vectors: jax.Array) -> jax.Array:
    exact = jax.lax.Precision.HIGHEST
    return jnp.matmul(embedded.astype(jnp.float32), vectors.T, precision=exact)


def _blend(
    kept: Sequence[_Row], places: Layout, rows: tuple[int, int], columns: tuple[int, int]
) -> Block:
    """Pixels of a block from the windows that reach into it."""
    wanted = places.rows.over(*rows)
    shape = rows[1] - rows[0], columns[1] - columns[0]
    channels = kept[0].sums.shape[-1]
    total = np.zeros((*shape, channels), np.float32)
    valid = np.ones(shape, bool)
    for row in kept:
        if row.number not in wanted:
            continue
        here, within = places.rows.part(row.number, *rows)
        strip = np.zeros((row.sums.shape[1], shape[1], channels), np.float32)
        for window in places.columns.over(*columns):
            there, inside = places.columns.part(window, *columns)
            strip[:, there] += places.columns.spread[window, inside] @ row.sums[window]
            if row.valid is not None:
                bits = np.unpackbits(row.valid[window, within], axis=-1, count=places.columns.size)
                valid[here, there] = bits[:, inside]
        spread = places.rows.spread[row.number, within]
        total[here] += (spread @ strip.reshape(len(strip), -1)).reshape(-1, *strip.shape[1:])
    weight = np.maximum(total[..., -1:], _THIN)
    scores = np.where(valid[..., None], total[..., :-1] / weight, np.nan)
    return Block(rows[0], columns[0], np.moveaxis(scores, -1, 0).astype(np.float32))
