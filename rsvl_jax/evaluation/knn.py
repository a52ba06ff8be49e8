"""k-nearest-neighbour classification of frozen features, exact and in bounded memory.

Protocols (all are to be had, because papers differ):
  L2_5        squared L2, k=5, every neighbour one vote: "Revisiting pre-trained remote sensing
              model benchmarks: resizing and normalization matters" and torchgeo-bench `knn5`
              (FAISS IndexFlatL2 on features that are not normalised).
  COSINE_20   cosine, k=20, votes weighted by exp(similarity / 0.07): Wu et al. 2018 (instance
              discrimination) as in Scale-MAE's mae/eval/knn.py.
  COSINE_200  the same with k=200 and 0.1, as PANGAEA has it.
"""

from dataclasses import dataclass

import numpy as np
from jax.sharding import Mesh

from rsvl_jax.evaluation.neighbours import Metric, neighbours


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
COSINE_200 = Knn(k=200, metric="cosine", temperature=0.1)


def classify(
    protocol: Knn,
    *,
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    num_classes: int,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Predicted class of each test row, int32 [Q]; see `votes`.

    Where classes tie, the lowest index wins (argmax of a bincount, as in FAISS-based benchmarks).
    """
    tally = votes(
        protocol,
        train=train,
        train_labels=train_labels,
        test=test,
        num_classes=num_classes,
        mesh=mesh,
    )
    return tally.argmax(axis=1).astype(np.int32)


def votes(
    protocol: Knn,
    *,
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    num_classes: int,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Votes for each class, float32 [Q,C]: the scores of a multi-label task.

    train [M,D], train_labels int [M] in [0, num_classes) or, where a row has several, bool [M,C];
    test [Q,D]. mesh: over which the queries are shared. Raises UserError where there are fewer than
    k training rows.
    """
    similarity, index = neighbours(test, train, k=protocol.k, metric=protocol.metric, mesh=mesh)
    weights = np.ones_like(similarity)
    if protocol.temperature is not None:
        weights = np.exp(similarity / protocol.temperature)
    labels = np.asarray(train_labels)[index]
    if labels.ndim == 3:
        return np.einsum("qk,qkc->qc", weights, labels.astype(np.float32))
    tally = np.zeros((len(labels), num_classes), weights.dtype)
    np.add.at(tally, (np.arange(len(labels))[:, None], labels), weights)
    return tally
