"""From scenes or a data set to an index: tiles are embedded in batches, read ahead of the model."""

import sys
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import jax
import numpy as np
from tqdm import tqdm

from graft_jax.pairs.counts import Counts
from graft_jax.search import index, tiles
from graft_jax.search.settings import Build
from graft_jax.search.tiles import Tile
from graft_jax.towers import TextImageModel
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import batch_shards, make_mesh
from rsvl_jax.parallel.sharding import batch_sharding

_AHEAD = 2  # batches read while the model is at work
_LINES = 10  # about single files that are printed


@dataclass(frozen=True)
class Made:
    """What was made: the file, how many tiles, in how many seconds, and what was left out."""

    index: str
    tiles: int
    seconds: float
    counts: Counts = field(repr=False)

    def __str__(self) -> str:
        rate = self.tiles / max(self.seconds, 1e-9)
        lines = [
            f"{self.index}: {self.tiles:,} tiles in {self.seconds:.1f} s, {rate:,.1f} images/s"
        ]
        for kind in ("scene", "tile"):
            skipped = self.counts.skipped(kind).items()
            lines += [f"left out, {reason}: {_number(n, kind)}" for reason, n in skipped]
        return "\n".join(lines + [f"  {line}" for line in self.counts.problems[:_LINES]])


def build(settings: Build, model: TextImageModel) -> Made:
    """Writes an index; the file stands whole or not at all.

    Raises UserError where nothing gives a tile.
    """
    start, counts = time.perf_counter(), Counts()
    with (
        index.create(settings.index) as writer,
        tqdm(total=0, unit="tile", disable=None, file=sys.stderr) as bar,
    ):
        for batch, vectors in _embedded(settings, model, counts, bar):
            for tile, vector in zip(batch, vectors, strict=True):
                writer.add({**tile.row, "embedding": vector})
            bar.update(len(batch))
        if not writer.tiles:
            raise UserError(_nothing(settings, counts))
        about = index.About(
            model=model.fingerprint,
            image_size=model.image_size,
            embed_dim=writer.embed_dim,
            gsd=settings.view.gsd,
            made_of=settings.dataset or _number(len(tiles.scene_paths(settings.inputs)), "scene"),
            tiles=writer.tiles,
        )
        writer.finish(about)
    return Made(settings.index, about.tiles, time.perf_counter() - start, counts)


def _embedded(
    settings: Build, model: TextImageModel, counts: Counts, bar: tqdm
) -> Iterator[tuple[Sequence[Tile], np.ndarray]]:
    """Tiles in batches, with their unit embeddings float32 [n, E]."""
    mesh = make_mesh()
    shards = batch_shards(mesh)
    batch_size = -(-settings.batch_size // shards) * shards
    size = model.image_size

    def hear(more: int) -> None:
        bar.total += more

    read = tiles.of_dataset if settings.dataset else tiles.of_scenes
    for batch in _ahead(_batches(read(settings, size, counts, hear), batch_size)):
        pixels = np.zeros((batch_size, size, size, 3), np.uint8)  # one shape: compiled once
        pixels[: len(batch)] = [tile.pixels for tile in batch]
        placed = jax.device_put(pixels, batch_sharding(mesh))
        vectors = np.asarray(model.images(placed)["image"], np.float32)[: len(batch)]
        if not np.isfinite(vectors).all():
            raise UserError("the model's embeddings hold NaN or infinite values: use other weights")
        yield batch, vectors


def _batches(items: Iterable[Tile], size: int) -> Generator[list[Tile], None, None]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _ahead(items: Generator[list[Tile], None, None]) -> Iterator[list[Tile]]:
    """Items in order, drawn by one thread a few ahead: a raster serves the thread that opened it.

    That thread closes it, too, where the model fails.
    """
    with ThreadPoolExecutor(1) as pool:
        try:
            waiting = deque(pool.submit(next, items, None) for _ in range(_AHEAD))
            while item := waiting.popleft().result():
                waiting.append(pool.submit(next, items, None))
                yield item
        finally:
            pool.submit(items.close).result()


def _nothing(settings: Build, counts: Counts) -> str:
    """Why there is no tile, in one line."""
    if counts.problems:
        first, *others = counts.problems
        return f"{first} (and {len(others)} more)" if others else first
    reasons = ", ".join(f"{n:,} {why}" for why, n in counts.skipped("tile").items())
    return f"no tile for {settings.index!r}: {reasons or 'the data set is empty'}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
