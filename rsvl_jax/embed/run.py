"""Reads, embeds and writes: in batches ahead of the model, in parts, and then as one table."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from rsvl_jax.embed import outputs
from rsvl_jax.embed.items import PLACES, Input, Item, Row, Skip
from rsvl_jax.embed.parts import Part, Parts
from rsvl_jax.errors import UserError
from rsvl_jax.inference import Embedder

PART = 4096  # items: what a kill can cost
_THREADS = 4
_LINES = 5  # about single items that are printed
Loaded = tuple[Any, Row] | UserError


@dataclass(frozen=True)
class Made:
    """What was made: the table, its rows and columns, seconds, and what was left out, by reason."""

    output: str
    rows: int
    dim: int
    seconds: float
    skipped: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        rate = self.rows / max(self.seconds, 1e-9)
        lines = [
            f"{self.output}: {self.rows:,} rows of {self.dim} numbers in {self.seconds:.1f} s, "
            f"{rate:,.1f}/s"
        ]
        lines += [f"left out, {reason}: {count:,}" for reason, count in self.skipped.items()]
        return "\n".join([*lines, *(f"  {line}" for line in self.problems[:_LINES])])


def run(
    embedder: Embedder, given: Input, output: str, *, space: str = "", part: int = PART
) -> Made:
    """Embeds all items into one file; the same call again goes on from the last whole part.

    Raises UserError where nothing can be embedded, and where embeddings are not finite.
    """
    start = time.perf_counter()
    outputs.check(output, columns=given.columns)
    about = {"weights": embedder.fingerprint, "space": space, "input": given.identity}
    parts = Parts(output, {**about, "columns": list(given.columns), "part": part})
    first = parts.done * part
    with tqdm(
        total=given.total, initial=first, unit=given.kind[:-1], disable=None, file=sys.stderr
    ) as bar:
        items = given.items(first)
        while True:
            done = _part(embedder, given.kind, islice(items, part), space, bar)
            if done.given:
                parts.write(done)
            if done.given < part:
                break
    return _finish(parts, output, given, about, start)


def _finish(parts: Parts, output: str, given: Input, about: dict[str, Any], start: float) -> Made:
    whole = Part()
    rows = dim = 0
    for each in parts.read():
        whole.skipped.update(each.skipped)
        whole.problems += each.problems[:_LINES]
        rows, dim = rows + len(each.rows), max(dim, each.embeddings.shape[1])
    skipped = dict(whole.skipped.most_common())
    if not rows:
        parts.remove()
        reasons = "; ".join(f"{reason}: {count}" for reason, count in skipped.items())
        more = f", as {whole.problems[0]}" if whole.problems else ""
        raise UserError(f"nothing could be embedded ({reasons or 'the input is empty'}{more})")
    outputs.write(output, parts.read, given.columns, about)
    parts.remove()
    seconds = time.perf_counter() - start
    return Made(output, rows, dim, seconds, skipped, tuple(whole.problems))


def _part(embedder: Embedder, kind: str, items: Iterator[Item], space: str, bar: tqdm) -> Part:
    done = Part()
    for batch, loaded in _ahead(items, embedder.batch_size):
        values: list[Any] = []
        for item, found in zip(batch, loaded, strict=True):
            if isinstance(found, UserError):
                done.skip(found.reason if isinstance(found, Skip) else "unusable", str(found))
                continue
            values.append(found[0])
            done.rows.append({"id": item.name, "source": item.source, **found[1]})
        done.given += len(batch)
        if values:
            rows = done.rows[-len(values) :]
            done.vectors.append(_embedded(embedder, kind, values, rows, space))
        bar.update(len(batch))
    return done


def _embedded(
    embedder: Embedder, kind: str, values: list[Any], rows: list[Row], space: str
) -> np.ndarray:
    if kind == PLACES:
        lon, lat = ([row[name] for row in rows] for name in ("lon", "lat"))
        found = embedder.embed_locations(lon=lon, lat=lat, space=space)
    else:
        found = embedder.embed_images(values, space=space)
    if not np.isfinite(found).all():
        raise UserError("the model's embeddings hold NaN or infinite values: use other weights")
    return found


def _ahead(items: Iterator[Item], size: int) -> Iterator[tuple[list[Item], list[Loaded]]]:
    """Batches with what their items load, the next one while this one is embedded.

    One thread draws items, since a raster serves the thread that opened it; others load them.
    """

    def draw() -> tuple[list[Item], list[Loaded]]:
        batch = list(islice(items, size))
        return batch, list(loaders.map(_load, batch))

    with ThreadPoolExecutor(1) as drawer, ThreadPoolExecutor(_THREADS) as loaders:
        waiting: Future[tuple[list[Item], list[Loaded]]] = drawer.submit(draw)
        while (found := waiting.result())[0]:
            waiting = drawer.submit(draw)
            yield found


def _load(item: Item) -> Loaded:
    try:
        return item.load()
    except UserError as error:
        return error
