"""Exact k-nearest-neighbour classification of frozen features, in bounded memory.

Protocols (both are reported, because papers differ):
  L2_5       squared L2, k=5, every neighbour one vote: "Revisiting pre-trained remote sensing
             model benchmarks: resizing and normalization matters" and torchgeo-bench `knn5`
             (FAISS IndexFlatL2 on features that are not normalised).
  COSINE_20  cosine, k=20, votes weighted by exp(similarity / 0.07): Wu et al. 2018 (instance
             discrimination) as in Scale-MAE's mae/eval/knn.py.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.vectors import normalize

QUERY_CHUNK = 1024
GALLERY_CHUNK = 16384

Metric = Literal["l2", "cosine"]


@dataclass(frozen=True)
class Knn:
    """A kNN protocol.

    Attributes:
      k: number of neighbours.
      metric: "l2" (squared) or "cosine".
      temperature: votes weigh exp(similarity / temperature); None gives each neighbour one vote.
    """

    k: int
    metric: Metric
    temperature: float | None = None

    def describe(self) -> dict[str, object]:
        """The protocol as it stands on a card."""
        vote = "uniform" if self.temperature is None else f"exp(similarity/{self.temperature})"
        return {"k": self.k, "distance": self.metric, "vote": vote, "ties": "lowest class index"}


L2_5 = Knn(k=5, metric="l2")
COSINE_20 = Knn(k=20, metric="cosine", temperature=0.07)


def classify(
    protocol: Knn,
    *,
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """Predicted class of each test row, int32 [Q].

    train [M,D], train_labels int [M] in [0, num_classes), test [Q,D]. Where classes tie, the
    lowest index wins (argmax of a bincount, as in FAISS-based benchmarks).
    Raises UserError where there are fewer than k training rows.
    """
    similarity, index = neighbours(test, train, k=protocol.k, metric=protocol.metric)
    votes = np.ones_like(similarity)
    if protocol.temperature is not None:
        votes = np.exp(similarity / protocol.temperature)
    labels = np.asarray(train_labels)[index]
    tally = np.zeros((len(labels), num_classes), votes.dtype)
    np.add.at(tally, (np.arange(len(labels))[:, None], labels), votes)
    return tally.argmax(axis=1).astype(np.int32)


def neighbours(
    queries: np.ndarray, gallery: np.ndarray, *, k: int, metric: Metric
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest gallery rows of each query, nearest first, ties to the lowest row.

    queries [Q,D], gallery [M,D]; returns (similarity float32 [Q,k], row int32 [Q,k]), similarity
    being minus the squared L2 distance, or the cosine. At most QUERY_CHUNK x GALLERY_CHUNK
    similarities exist at a time. Raises UserError where the gallery has fewer than k rows.
    """
    if len(gallery) < k:
        raise UserError(f"kNN with k={k} needs at least {k} training examples, got {len(gallery)}")
    if metric == "cosine":
        queries, gallery = normalize(queries), normalize(gallery)
    blocks = _blocks(np.asarray(gallery, np.float32), GALLERY_CHUNK)
    device_blocks = jnp.asarray(blocks)
    found = [
        _nearest(jnp.asarray(chunk), device_blocks, len(gallery), k=k, metric=metric)
        for chunk in _blocks(np.asarray(queries, np.float32), QUERY_CHUNK)
    ]
    similarity, index = (np.concatenate([np.asarray(part[i]) for part in found]) for i in (0, 1))
    return similarity[: len(queries)], index[: len(queries)]


def _blocks(rows: np.ndarray, largest: int) -> np.ndarray:
    """Rows [M,D] as equal blocks [blocks, size, D], size <= largest, zero rows at the end."""
    count = max(1, -(-len(rows) // largest))
    size = -(-len(rows) // count)
    padded = np.zeros((count * size, rows.shape[1]), rows.dtype)
    padded[: len(rows)] = rows
    return padded.reshape(count, size, -1)


@partial(jax.jit, static_argnames=("k", "metric"))
def _nearest(
    queries: jax.Array, blocks: jax.Array, rows: int, *, k: int, metric: Metric
) -> tuple[jax.Array, jax.Array]:
    """Running top k over gallery blocks [blocks, size, D]; row ids >= rows are padding."""
    size = blocks.shape[1]

    def visit(best, block_and_start):
        block, start = block_and_start
        row = start + jnp.arange(size, dtype=jnp.int32)
        scores = jnp.where(row < rows, _similarity(queries, block, metric), -jnp.inf)
        # The best so far comes first: top_k is stable, so ties stay with the lowest row.
        scores = jnp.concatenate([best[0], scores], axis=1)
        ids = jnp.concatenate([best[1], jnp.broadcast_to(row, (len(queries), size))], axis=1)
        top, at = jax.lax.top_k(scores, k)
        return (top, jnp.take_along_axis(ids, at, axis=1)), None

    empty = (jnp.full((len(queries), k), -jnp.inf), jnp.zeros((len(queries), k), jnp.int32))
    starts = jnp.arange(len(blocks), dtype=jnp.int32) * size
    best, _ = jax.lax.scan(visit, empty, (blocks, starts))
    return best


def _similarity(queries: jax.Array, block: jax.Array, metric: Metric) -> jax.Array:
    """[Q,size]: minus the squared distance, or the inner product of rows that are normalised."""
    # HIGHEST: accelerators would otherwise multiply in bfloat16 and reorder near neighbours.
    inner = jnp.matmul(queries, block.T, precision=jax.lax.Precision.HIGHEST)
    if metric == "cosine":
        return inner
    square = jnp.sum(block * block, axis=1)
    return 2 * inner - square - jnp.sum(queries * queries, axis=1, keepdims=True)
