"""The scores that the page speaks of, as functions of sums over geographic blocks."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from rsvl_jax.evaluation import classification
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation.bootstrap import Statistic
from rsvl_jax.evaluation.retrieval_tasks import MEAN_OF_BOTH
from rsvl_jax.evaluation.segmentation_tasks import FREQUENT


@dataclass(frozen=True)
class Metric:
    """A score.

    Attributes:
      task, name: of the cards.
      title: in words, short enough for a column.
      statistic: summed sums [M] -> the function of [..., M] that gives the score in [0, 1]. (Which
        classes are frequent is a matter of the labels, that all models share.)
    """

    task: str
    name: str
    title: str
    statistic: Callable[[np.ndarray], Statistic]

    @property
    def key(self) -> str:
        """As the cards have it."""
        return f"{self.task}/{self.name}"


def _always(statistic: Statistic) -> Callable[[np.ndarray], Statistic]:
    return lambda total: statistic


def _frequent(total: np.ndarray) -> Statistic:
    return partial(seg.mean_iou, among=seg.class_shares(total) >= FREQUENT)


_BALANCED = _always(classification.balanced_accuracy)
KNN = Metric("knn/l2_k5/mean", "balanced_accuracy", "kNN, k=5", _BALANCED)
KNN_20 = Metric("knn/cosine_k20/mean", "balanced_accuracy", "kNN, k=20", _BALANCED)
ZEROSHOT = Metric("zeroshot", "balanced_accuracy", "zero-shot", _BALANCED)
SEGMENTATION = Metric("segmentation/linear", "mean_iou_frequent", "segmentation, mIoU", _frequent)
WEIGHTED = Metric(
    "segmentation/linear",
    "frequency_weighted_iou",
    "segmentation, weighted IoU",
    _always(seg.frequency_weighted_iou),
)
TEXT = Metric(
    "retrieval/image_text", "mean_recall", "image-text recall", _always(MEAN_OF_BOTH["mean_recall"])
)
PLACE = Metric(
    "retrieval/image_location",
    "mean_recall",
    "image-location recall",
    _always(MEAN_OF_BOTH["mean_recall"]),
)
METRICS = (KNN, KNN_20, SEGMENTATION, WEIGHTED, ZEROSHOT, TEXT, PLACE)

GRAFT_ZEROSHOT = Metric("zeroshot", "balanced_accuracy", "zero-shot, whole tiles", _BALANCED)
GRAFT_SEGMENTATION = Metric(
    "segmentation/zeroshot", "mean_iou", "zero-shot segmentation, mIoU", _always(seg.mean_iou)
)
GRAFT_METRICS = (GRAFT_ZEROSHOT, GRAFT_SEGMENTATION)
