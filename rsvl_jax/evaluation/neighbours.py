"""Exact nearest neighbours of many queries among more rows than fit on a device.

The gallery passes by once, block by block, from wherever it lies (memory, or a memory-mapped file);
only the best k of each query are kept. Products are taken by XLA, over all devices of a mesh; on
CPUs the few similarities that can still enter are then picked on the host, which is several times
cheaper than sorting them all.
"""

from collections.abc import Iterator
from functools import partial
from typing import Literal

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

Metric = Literal["l2", "cosine"]
Best = tuple[np.ndarray, np.ndarray]


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
        self._queries = [placing.put(chunk, mesh, split=True) for chunk in self._cut(unit)]

    def _cut(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        for start in range(0, len(rows), self._size):
            chunk = rows[start : start + self._size]
            yield np.pad(chunk, ((0, self._size - len(chunk)), (0, 0)))

    def search(self, gallery: np.ndarray, k: int, *, on_host: bool) -> Best:
        """(similarity, row) of the best k of every query, those of the filling too."""
        best: list[Best] = [
            (np.full((self._size, k), -np.inf, np.float32), np.zeros((self._size, k), np.int32))
        ] * len(self._queries)
        step = _pick_on_host if on_host else _pick_on_device
        for start, stop in _blocks(len(gallery), k):
            block = self._block(gallery[start:stop])
            # One product ahead: the devices work while the host picks.
            ahead = self._similarity(0, block)
            for number, found in enumerate(best):
                scores = ahead
                if number + 1 < len(best):
                    ahead = self._similarity(number + 1, block)
                best[number] = step(found, placing.whole(scores, self._mesh), start)
        return np.concatenate([b[0] for b in best]), np.concatenate([b[1] for b in best])

    def _block(self, rows: np.ndarray) -> jax.Array:
        unit = normalize(rows) if self._metric == "cosine" else np.asarray(rows, np.float32)
        return placing.put(unit, self._mesh, split=False)

    def _similarity(self, chunk: int, block: jax.Array) -> jax.Array:
        return _similarity(self._queries[chunk], block, self._metric)


def _blocks(rows: int, k: int) -> Iterator[tuple[int, int]]:
    """A small block, which is sorted whole, then equal ones."""
    first = min(rows, max(FIRST_CHUNK, k))
    yield 0, first
    for start in range(first, rows, GALLERY_CHUNK):
        yield start, min(start + GALLERY_CHUNK, rows)


@partial(jax.jit, static_argnames="metric")
def _similarity(queries: jax.Array, block: jax.Array, metric: Metric) -> jax.Array:
    """[Q,size]: minus the squared distance, or the inner product of rows that are normalised."""
    # HIGHEST: accelerators would otherwise multiply in bfloat16 and reorder near neighbours.
    inner = jnp.matmul(queries, block.T, precision=jax.lax.Precision.HIGHEST)
    if metric == "cosine":
        return inner
    square = jnp.sum(block * block, axis=1)
    return 2 * inner - square - jnp.sum(queries * queries, axis=1, keepdims=True)


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
    size, k = best[0].shape
    # A row that ties with the worst of the best comes after it, so it cannot enter.
    query, column = np.nonzero(found > best[0][:, -1:])
    if not len(query):
        return best
    crowd = max(CROWD, 8 * k)
    if len(query) > crowd * size // 4:
        query, column = _thinned(query, column, found, k, crowd)
    owner = np.concatenate([np.repeat(np.arange(size), k), query])
    similarity = np.concatenate([best[0].reshape(-1), found[query, column]])
    row = np.concatenate([best[1].reshape(-1), (start + column).astype(np.int32)])
    order = np.lexsort((row, -similarity, owner))
    first = np.searchsorted(owner[order], np.arange(size))
    kept = order[first[:, None] + np.arange(k)]
    return similarity[kept], row[kept]


def _thinned(
    query: np.ndarray, column: np.ndarray, found: np.ndarray, k: int, crowd: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of a query with more than `crowd` candidates only its best k, of those that tie the first.

    query: rising.
    """
    ends = np.cumsum(np.bincount(query, minlength=len(found)))
    keep = np.ones(len(query), bool)
    for row in np.flatnonzero(np.diff(ends, prepend=0) > crowd):
        own = slice(ends[row - 1] if row else 0, ends[row])
        value = found[row, column[own]]
        least = np.partition(value, -k)[-k]
        chosen = value > least
        chosen[np.flatnonzero(value == least)[:k]] = True
        keep[own] = chosen
    return query[keep], column[keep]
