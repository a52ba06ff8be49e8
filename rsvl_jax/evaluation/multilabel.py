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


def decisions(scores: np.ndarray, labels: np.ndarray, threshold: float) -> np.ndarray:
    """Hits, false alarms and misses of each class, float64 [n, 3*C], to be summed over examples.

    scores float [n,C], a label is given where they exceed the threshold; labels bool [n,C].
    """
    given = scores > threshold
    parts = (given & labels, given & ~labels, ~given & labels)
    return np.concatenate(parts, axis=1).astype(np.float64)


def f1_micro(totals: np.ndarray) -> np.ndarray:
    """F1 of all (image, class) decisions together: summed `decisions` [..., 3*C] -> [...]."""
    hits, alarms, misses = (part.sum(axis=-1) for part in np.split(totals, 3, axis=-1))
    return _f1(hits, alarms, misses)


def f1_per_class(totals: np.ndarray) -> np.ndarray:
    """F1 of each class, [..., 3*C] -> [..., C]; NaN for one without a positive."""
    hits, alarms, misses = np.split(totals, 3, axis=-1)
    return np.where(hits + misses > 0, _f1(hits, alarms, misses), np.nan)


def f1_macro(totals: np.ndarray) -> np.ndarray:
    """Mean of the classes that have a positive, [..., 3*C] -> [...]."""
    return mean_present(f1_per_class(totals))


def _f1(hits: np.ndarray, alarms: np.ndarray, misses: np.ndarray) -> np.ndarray:
    return 2 * hits / np.maximum(2 * hits + alarms + misses, 1e-12)
