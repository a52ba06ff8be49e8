"""Retrieval by cosine: recall@k, mean recall and median rank with several right answers a query.

A query hits at k if ANY relevant item is among the first k (SkyScript; big_vision
evaluators/proj/image_text/image_text_retrieval.py). Items that tie with the best relevant one
are counted before it, so that an encoder which maps everything to one point scores 0 and not 1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.vectors import normalize

KS = (1, 5, 10)
_QUERY_CHUNK = 512


def ranks(queries: np.ndarray, gallery: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Rank (1 = first) of the best relevant gallery item of each query, int32 [Q].

    queries [Q,E] and gallery [G,E] embeddings (normalised here), relevant bool [Q,G]. Chunked
    over queries. Raises UserError where a query has no relevant item or the shapes disagree.
    """
    relevant = _checked(relevant, (len(queries), len(gallery)))
    unit, items = normalize(queries), jnp.asarray(normalize(gallery))
    chunk = min(_QUERY_CHUNK, len(queries))
    found = []
    for start in range(0, len(queries), chunk):
        rows = np.arange(start, start + chunk).clip(max=len(queries) - 1)
        found.append(_ranks_by_cosine(unit[rows], items, relevant[rows]))
    return np.concatenate([np.asarray(part) for part in found])[: len(queries)]


def ranks_from_scores(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Rank (1 = first) of the best relevant item: scores [Q,G], higher is better -> int32 [Q]."""
    return np.asarray(
        _ranks(jnp.asarray(scores, jnp.float32), _checked(relevant, np.shape(scores)))
    )


def identical(queries: Sequence[str], gallery: Sequence[str]) -> np.ndarray:
    """Relevance of texts to texts, bool [Q,G]: true where they are the same string."""
    ids = {text: number for number, text in enumerate(dict.fromkeys([*queries, *gallery]))}
    left, right = (np.array([ids[text] for text in texts]) for texts in (queries, gallery))
    return left[:, None] == right[None, :]


def tallies(found: np.ndarray, ks: Sequence[int] = KS) -> np.ndarray:
    """Per-query counts, float64 [Q, K+1]: hit among the first k for each k, then one.

    Sums of rows are all that the recalls below need, so a bootstrap can resample them.
    """
    hits = np.asarray(found)[:, None] <= np.asarray(ks)
    return np.concatenate([hits, np.ones((len(hits), 1))], axis=1)


def recalls(totals: np.ndarray) -> np.ndarray:
    """recall@k in [0, 1] for each k: summed tallies [..., K+1] -> [..., K]."""
    return totals[..., :-1] / np.maximum(totals[..., -1:], 1)


def mean_recall(totals: np.ndarray) -> np.ndarray:
    """Mean of recall@k over k in one direction (SkyScript): [..., K+1] -> [...]."""
    return recalls(totals).mean(axis=-1)


def chance(relevant: np.ndarray, k: int) -> float:
    """Expected recall@k of a random order, exactly: mean over queries of 1 - C(G-r,k)/C(G,k)."""
    items = relevant.shape[1]
    r = relevant.sum(axis=1).astype(np.float64)
    k = min(k, items)
    room = items - r >= k
    rest = np.where(room, items - r, k)
    misses = np.exp(_log_choose(rest, k) - _log_choose(np.full_like(rest, items), k))
    return float(np.mean(np.where(room, 1.0 - misses, 1.0)))


def _log_choose(n: np.ndarray, k: int) -> np.ndarray:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _checked(relevant: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    relevant = np.asarray(relevant, bool)
    if relevant.shape != tuple(shape):
        raise UserError(f"relevance of shape {relevant.shape} for (queries, gallery) {shape}")
    missing = np.flatnonzero(~relevant.any(axis=1))
    if missing.size:
        raise UserError(
            f"{missing.size} queries have no relevant item (first: query {missing[0]}); "
            "leave them out before scoring"
        )
    return relevant


@jax.jit
def _ranks_by_cosine(queries: jax.Array, items: jax.Array, relevant: jax.Array) -> jax.Array:
    return _ranks(jnp.matmul(queries, items.T, precision=jax.lax.Precision.HIGHEST), relevant)


@jax.jit
def _ranks(scores: jax.Array, relevant: jax.Array) -> jax.Array:
    best = jnp.max(jnp.where(relevant, scores, -jnp.inf), axis=1, keepdims=True)
    # "not below" and not ">=": a NaN score then counts against the model, too.
    return 1 + jnp.sum(~relevant & ~(scores < best), axis=1, dtype=jnp.int32)
