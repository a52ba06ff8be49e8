"""Exact nearest neighbours of many queries among more rows than fit on a device.

The gallery passes by once, block by block, from wherever it lies (memory, or a memory-mapped file);
only the best k of each query are kept. Products are taken by XLA, over all devices of a mesh; on
CPUs the few similarities that can still enter are then picked on the host, which is several times
cheaper than sorting them all.
"""

from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import placing
from rsvl_jax.evaluation.vectors import normalize

QUERY_CHUNK = 1024
GALLERY_CHUNK = 16384
# Of the first block, which alone is sorted whole.
FIRST_CHUNK = 1024
# Candidates of a query in a block, from which on its best k are looked for before they are sorted:
# 8 k, and no fewer than this. A gallery in the order of its classes brings them all at once.
CROWD = 256

# Neighbouring rows whose best similarity alone is looked at first: most hold none that can enter.
GROUP = 64

Metric = Literal["l2", "cosine"]
Best = tuple[np.ndarray, np.ndarray]
Part = tuple[jax.Array, jax.Array | None]  # rows [n,D], and their squares [n] for distances


def neighbours(
    queries: np.ndarray,
    gallery: np.ndarray,
    *,
    k: int,
    metric: Metric,
    mesh: Mesh | None = None,
    pick: Literal["auto", "host", "device"] = "auto",
) -> Best:
    """The k nearest gallery rows of each query, nearest first, ties to the lowest row.

    Args:
      queries, gallery: [Q,D] and [M,D]; the gallery may be a np.memmap.
      metric: similarity is minus the squared L2 distance, or the cosine.
      mesh: whose batch axes share the queries; None: the first device has them all. Every process
        gets the whole answer.
      pick: where the best are picked; "auto": on the host where devices are CPUs.

    Returns (similarity float32 [Q,k], row int32 [Q,k]). At most QUERY_CHUNK x GALLERY_CHUNK
    similarities a device exist at a time, beside the queries and one block of the gallery.
    Raises UserError where the gallery has fewer than k rows.
    """
    if len(gallery) < k:
        raise UserError(f"kNN with k={k} needs at least {k} training examples, got {len(gallery)}")
    chunks = _Chunks(np.asarray(queries), metric, mesh)
    host = pick == "host" or (pick == "auto" and jax.default_backend() == "cpu")
    best = chunks.search(gallery, k, on_host=host)
    return best[0][: len(queries)], best[1][: len(queries)]


class _Chunks:
    """Queries on the devices, in equal chunks, the last one filled up with zeros."""

    def __init__(self, queries: np.ndarray, metric: Metric, mesh: Mesh | None):
        self._size = placing.chunk_size(QUERY_CHUNK, len(queries), mesh)
        self._metric, self._mesh = metric, mesh
        unit = normalize(queries) if metric == "cosine" else np.asarray(queries, np.float32)
        self._queries = [
            self._part(placing.put(chunk, mesh, split=True)) for chunk in self._cut(unit)
        ]

    def _cut(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(rows), self._size):
            chunk = rows[start : start + self._size]
            yield np.pad(chunk, ((0, self._size - len(chunk)), (0, 0)))

    def search(self, gallery: np.ndarray, k: int, *, on_host: bool) -> Best:
        """(similarity, row) of the best k of every query, those of the filling too."""
        best: list[Best] = [
            (np.full((self._size, k), -np.inf, np.float32), np.zeros((self._size, k), np.int32))
        ] * len(self._queries)
        for start, stop in _blocks(len(gallery), k):
            block = self._block(gallery[start:stop])
            grouped = on_host and start > 0 and (stop - start) % GROUP == 0
            pick = _pick_of_groups if grouped else _pick_on_host if on_host else _pick_on_device
            # One product ahead: the devices work while the host picks.
            ahead = self._product(0, block, grouped)
            for number, found in enumerate(best):
                scores = ahead
                if number + 1 < len(best):
                    ahead = self._product(number + 1, block, grouped)
                best[number] = pick(found, placing.whole(scores, self._mesh), start)
        return np.concatenate([b[0] for b in best]), np.concatenate([b[1] for b in best])

    def _block(self, rows: np.ndarray) -> Part:
        unit = normalize(rows) if self._metric == "cosine" else np.asarray(rows, np.float32)
        return self._part(placing.put(unit, self._mesh, split=False))

    def _part(self, rows: jax.Array) -> Part:
        return rows, None if self._metric == "cosine" else _squares(rows)

    def _product(self, chunk: int, block: Part, grouped: bool) -> Any:
        return (_grouped if grouped else _similarity)(*self._queries[chunk], *block)


def _blocks(rows: int, k: int) -> Iterator[tuple[int, int]]:
    """A small block, which is sorted whole, then equal ones."""
    first = min(rows, max(FIRST_CHUNK, k))
    yield 0, first
    for start in range(first, rows, GALLERY_CHUNK):
        yield start, min(start + GALLERY_CHUNK, rows)


@jax.jit
def _squares(rows: jax.Array) -> jax.Array:
    return jnp.sum(rows * rows, axis=1)


@jax.jit
def _similarity(
    queries: jax.Array, own: jax.Array | None, block: jax.Array, square: jax.Array | None
) -> jax.Array:
    """[Q,size]: minus the squared distance, or, without squares, the inner product."""
    # HIGHEST: accelerators would otherwise multiply in bfloat16 and reorder near neighbours.
    inner = jnp.matmul(queries, block.T, precision=jax.lax.Precision.HIGHEST)
    return inner if own is None or square is None else 2 * inner - square - own[:, None]


@jax.jit
def _grouped(
    queries: jax.Array, own: jax.Array | None, block: jax.Array, square: jax.Array | None
) -> tuple[jax.Array | None, ...]:
    """Inner products [Q,size]; the squares of queries [Q] and of rows [size]; and the best
    similarity of each group of rows, [Q,size/GROUP].

    The similarities of all are never written: that is another pass over what is many megabytes.
    """
    inner = jnp.matmul(queries, block.T, precision=jax.lax.Precision.HIGHEST)
    scores = inner if own is None or square is None else 2 * inner - square - own[:, None]
    return inner, own, square, scores.reshape(len(queries), -1, GROUP).max(axis=2)


def _pick_on_device(best: Best, scores: jax.Array, start: int) -> Best:
    found = _top(jnp.asarray(best[0]), jnp.asarray(best[1]), scores, jnp.int32(start))
    return np.asarray(found[0]), np.asarray(found[1])


@jax.jit
def _top(similarity: jax.Array, row: jax.Array, scores: jax.Array, start: jax.Array):
    k = similarity.shape[1]
    rows = start + jnp.arange(scores.shape[1], dtype=jnp.int32)
    # The best so far comes first: top_k is stable, so ties stay with the lowest row.
    every = jnp.concatenate([similarity, scores], axis=1)
    ids = jnp.concatenate([row, jnp.broadcast_to(rows, scores.shape)], axis=1)
    top, at = jax.lax.top_k(every, k)
    return top, jnp.take_along_axis(ids, at, axis=1)


def _pick_on_host(best: Best, scores: jax.Array, start: int) -> Best:
    if start == 0:
        return _pick_on_device(best, scores, start)
    found = np.asarray(scores)
    # A row that ties with the worst of the best comes after it, so it cannot enter.
    query, column = np.nonzero(found > best[0][:, -1:])
    return _merged(best, query, column, found[query, column], start)


def _pick_of_groups(best: Best, product: tuple[jax.Array | None, ...], start: int) -> Best:
    """As `_pick_on_host`, from what `_grouped` gives."""
    inner, own, square, peaks = (None if x is None else np.asarray(x) for x in product)
    assert inner is not None and peaks is not None
    worst = best[0][:, -1]
    query, group = np.nonzero(peaks > worst[:, None])
    values = inner.reshape(*peaks.shape, GROUP)[query, group]
    if own is not None and square is not None:  # as on the devices, to the last bit
        values = 2 * values - square.reshape(-1, GROUP)[group] - own[query, None]
    row, column = np.nonzero(values > worst[query, None])
    return _merged(best, query[row], group[row] * GROUP + column, values[row, column], start)


def _merged(
    best: Best, query: np.ndarray, column: np.ndarray, value: np.ndarray, start: int
) -> Best:
    """The best k of what was found and of candidates: query (rising), column and value [n]."""
    if not len(query):
        return best
    size, k = best[0].shape
    crowd = max(CROWD, 8 * k)
    if len(query) > crowd * size // 4:
        kept = _best_of_many(query, value, size, k, crowd)
        query, column, value = query[kept], column[kept], value[kept]
    owner = np.concatenate([np.repeat(np.arange(size), k), query])
    similarity = np.concatenate([best[0].reshape(-1), value])
    row = np.concatenate([best[1].reshape(-1), (start + column).astype(np.int32)])
    order = np.lexsort((row, -similarity, owner))
    first = np.searchsorted(owner[order], np.arange(size))
    kept = order[first[:, None] + np.arange(k)]
    return similarity[kept], row[kept]


def _best_of_many(
    query: np.ndarray, value: np.ndarray, size: int, k: int, crowd: int
) -> np.ndarray:
    """Of a query with more than `crowd` candidates only its best k, of those that tie the first.

    query: rising. Returns bool [n].
    """
    ends = np.cumsum(np.bincount(query, minlength=size))
    keep = np.ones(len(query), bool)
    for row in np.flatnonzero(np.diff(ends, prepend=0) > crowd):
        own = slice(ends[row - 1] if row else 0, ends[row])
        least = np.partition(value[own], -k)[-k]
        chosen = value[own] > least
        chosen[np.flatnonzero(value[own] == least)[:k]] = True
        keep[own] = chosen
    return keep
