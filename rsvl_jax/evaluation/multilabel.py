"""Mean average precision of images with several labels, with counts so that it can be resampled.

Average precision of a class is the step-wise area under its precision-recall curve, thresholds at
distinct scores (scikit-learn's average_precision_score, and torchmetrics' without thresholds):
examples of equal score enter together, so that nothing hangs on the order of a file.
"""

import numpy as np

from rsvl_jax.evaluation.classification import mean_present


def average_precision(
    scores: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    """Area under the precision-recall curve, float64 [...]; NaN without a positive.

    scores [n], higher is better; labels bool [n]; counts [..., n]: how often each example counts,
    None for once.
    """
    weights = np.ones(len(scores)) if counts is None else np.asarray(counts, np.float64)
    order = np.argsort(-np.asarray(scores), kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    drawn = weights[..., order]
    hits = np.cumsum(drawn * labels[order], axis=-1)[..., ends]
    seen = np.cumsum(drawn, axis=-1)[..., ends]
    total = hits[..., -1:]
    steps = np.diff(hits, axis=-1, prepend=0)
    area = (steps * hits / np.maximum(seen, 1e-12)).sum(axis=-1)
    return np.where(total[..., 0] > 0, area / np.maximum(total[..., 0], 1e-12), np.nan)


def per_class(
    scores: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None
) -> np.ndarray:
    """Average precision of each class, [..., C], from scores [n,C] and labels bool [n,C]."""
    columns = range(labels.shape[1])
    found = [average_precision(scores[:, c], labels[:, c], counts) for c in columns]
    return np.stack(found, axis=-1)


def macro(scores: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Mean over the classes that have a positive, [...]."""
    return mean_present(per_class(scores, labels, counts))


def micro(scores: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Average precision of all (image, class) pairs as one task, [...]."""
    classes = labels.shape[1]
    spread = None if counts is None else np.repeat(counts, classes, axis=-1)
    return average_precision(scores.reshape(-1), labels.reshape(-1), spread)
