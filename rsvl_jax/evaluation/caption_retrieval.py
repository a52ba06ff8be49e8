"""Retrieval between images and their captions, of which an image may have several.

Protocols differ in what a repeated caption is:
  apart    every caption is an item of its own, right for its image alone (RemoteCLIP,
           CLIP_benchmark): of a hundred images called "many planes" one is right.
  merged   equal captions are one item, right for every image that has it, and any right item that
           is found counts (SkyScript: UCM's 1,050 test captions are 377 different ones).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import placing
from rsvl_jax.evaluation.vectors import normalize

KS = (1, 5, 10, 100)
_QUERY_CHUNK = 512
_NONE = -1


@dataclass(frozen=True)
class Captions:
    """The texts of a gallery and whose they are.

    Attributes:
      texts: m items.
      images_of: for each text the rows of its images, int32 [m, r], -1 where it has fewer.
      texts_of: for each image its texts, int32 [n, r], -1 where it has fewer.
    """

    texts: tuple[str, ...]
    images_of: np.ndarray
    texts_of: np.ndarray

    @classmethod
    def of(cls, captions: Sequence[Sequence[str]], *, merge: bool) -> "Captions":
        """captions: of each image. Raises UserError for an image without any."""
        for row, own in enumerate(captions):
            if not own:
                raise UserError(f"image {row} has no caption: leave it out of retrieval")
        pairs = [(row, text) for row, own in enumerate(captions) for text in own]
        texts = [text for _, text in pairs]
        if merge:
            texts = list(dict.fromkeys(texts))
            place = {text: number for number, text in enumerate(texts)}
            pairs = list(dict.fromkeys(pairs))
        numbers = [place[text] for _, text in pairs] if merge else range(len(pairs))
        found = np.array([(row, number) for (row, _), number in zip(pairs, numbers, strict=True)])
        return cls(
            texts=tuple(texts),
            images_of=_grouped(found[:, 1], found[:, 0], len(texts)),
            texts_of=_grouped(found[:, 0], found[:, 1], len(captions)),
        )


def _grouped(keys: np.ndarray, values: np.ndarray, groups: int) -> np.ndarray:
    """Values of each key 0..groups-1 in their order, int32 [groups, most], filled up with -1."""
    order = np.argsort(keys, kind="stable")
    counts = np.bincount(keys, minlength=groups)
    found = np.full((groups, int(counts.max(initial=1))), _NONE, np.int32)
    start = np.cumsum(counts) - counts
    found[keys[order], np.arange(len(keys)) - start[keys[order]]] = values[order]
    return found


def ranks(
    queries: np.ndarray, gallery: np.ndarray, right: np.ndarray, mesh: Mesh | None = None
) -> np.ndarray:
    """Rank (1 = first) by cosine of the best right item of each query, int32 [Q].

    queries [Q,E], gallery [G,E]; right int [Q,r]: the right items of each query, -1 for none. Items
    that tie with the best right one stand before it. mesh: whose batch axes share the queries.
    Raises UserError where a query has no right item.
    """
    missing = np.flatnonzero((right == _NONE).all(axis=1))
    if missing.size:
        raise UserError(f"query {missing[0]} has no right item: leave it out before scoring")
    size = placing.chunk_size(_QUERY_CHUNK, len(queries), mesh)
    unit, items = normalize(queries), placing.put(normalize(gallery), mesh, split=False)
    found = []
    for start in range(0, len(queries), size):
        rows = np.arange(start, start + size).clip(max=len(queries) - 1)
        chunk = (placing.put(values[rows], mesh, split=True) for values in (unit, right))
        found.append(np.asarray(placing.whole(_ranks(*chunk, items), mesh)))
    return np.concatenate(found)[: len(queries)]


@jax.jit
def _ranks(queries: jax.Array, right: jax.Array, items: jax.Array) -> jax.Array:
    scores = jnp.matmul(queries, items.T, precision=jax.lax.Precision.HIGHEST)
    known = right != _NONE
    own = jnp.where(known, jnp.take_along_axis(scores, jnp.maximum(right, 0), axis=1), -jnp.inf)
    best = own.max(axis=1, keepdims=True)
    # "not below" and not ">=": a NaN score then counts against the model, too.
    before = jnp.sum(~(scores < best), axis=1, dtype=jnp.int32)
    return 1 + before - jnp.sum(known & ~(own < best), axis=1, dtype=jnp.int32)


def tallies(found: np.ndarray, ks: Sequence[int] = KS) -> np.ndarray:
    """Per-query counts, float64 [Q, K+2]: hit among the first k for each k, the rank, and one."""
    ranks_of = np.asarray(found, np.float64)[:, None]
    return np.concatenate([ranks_of <= np.asarray(ks), ranks_of, np.ones_like(ranks_of)], axis=1)


def recall(totals: np.ndarray, position: int) -> np.ndarray:
    """recall@ks[position] in [0, 1]: summed tallies [..., K+2] -> [...]."""
    return totals[..., position] / np.maximum(totals[..., -1], 1)


def recall_at(position: int) -> partial:
    """`recall` at a position, as a statistic."""
    return partial(recall, position=position)


def mean_recall(totals: np.ndarray, ks: Sequence[int] = KS) -> np.ndarray:
    """Mean of recall@1, 5 and 10 of one direction (SkyScript): [..., K+2] -> [...].

    The mean of both directions is the mean recall of RemoteCLIP and RS5M, over six numbers.
    """
    wanted = [position for position, k in enumerate(ks) if k <= 10]
    return np.mean([recall(totals, position) for position in wanted], axis=0)


def mean_rank(totals: np.ndarray) -> np.ndarray:
    """Mean rank, 1 = first: summed tallies [..., K+2] -> [...]."""
    return totals[..., -2] / np.maximum(totals[..., -1], 1)


def chance(right: np.ndarray, items: int, k: int) -> float:
    """Expected recall@k of a random order of the gallery."""
    r = (right != _NONE).sum(axis=1)
    k = min(k, items)
    steps = np.arange(k)
    # A query misses with the product over i < k of (G - r - i) / (G - i).
    left = np.maximum(items - r[:, None] - steps, 0) / (items - steps)
    return float(np.mean(1 - left.prod(axis=1)))
