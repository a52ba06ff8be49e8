"""Mean average precision at k, with counts of the gallery's items so that it can be resampled.

AP@k of a query is the sum of precision@i over the ranks i <= k that hold a relevant item, over
min(k, R), R being the number of relevant items: 1 where the first ranks are all relevant. (Papers
that report mAP@20 and mAP@100 seldom say which definition they mean; GRAFT does not.) Items of
equal score stand with the irrelevant ones first, so that an encoder which maps everything to one
point does not score.
"""

from collections.abc import Sequence

import numpy as np

from rsvl_jax.evaluation.classification import mean_present


def mean_average_precision(
    scores: np.ndarray, relevant: np.ndarray, ks: Sequence[int], counts: np.ndarray | None = None
) -> np.ndarray:
    """mAP@k in [0, 1] for each k, over the queries that have a relevant item: float64 [..., K].

    scores float [Q, G], higher is better; relevant bool [Q, G]; counts [..., G]: how often each
    item stands in the gallery, None for once. NaN where no query has a relevant item.
    """
    items = np.ones(scores.shape[1]) if counts is None else np.asarray(counts, np.float64)
    order = np.lexsort((relevant, -np.asarray(scores)), axis=-1)
    each = [
        _average_precision(items[..., row], relevant[query][row], ks)
        for query, row in enumerate(order)
    ]
    return mean_present(np.stack(each, axis=-1))


def _average_precision(counts: np.ndarray, relevant: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """AP@k of one query: counts [..., G] and relevant bool [G] by rank -> [..., K]."""
    hits = counts * relevant
    hits_before = np.cumsum(hits, axis=-1) - hits
    before = np.cumsum(counts, axis=-1) - counts
    total = hits.sum(axis=-1)
    sums = np.zeros((*total.shape, len(ks)))
    for copy in range(1, round(float(hits.max(initial=0))) + 1):  # copies take adjacent ranks
        precision = np.where(hits >= copy, (hits_before + copy) / (before + copy), 0)
        for column, k in enumerate(ks):
            sums[..., column] += np.where(before + copy <= k, precision, 0).sum(axis=-1)
    best = np.minimum(total[..., None], np.asarray(ks))
    return np.where(best > 0, sums / np.maximum(best, 1), np.nan)


def chance(relevant: np.ndarray, k: int) -> float:
    """Expected mAP@k of a random order, exactly: relevant bool [Q, G], in [0, 1]."""
    items = relevant.shape[1]
    r = relevant.sum(axis=1, keepdims=True).astype(np.float64)
    rank = np.arange(1, min(k, items) + 1)
    # Rank i holds a relevant item with chance r / G; of the i - 1 before it, their share are too.
    others = (rank - 1) * (r - 1) / max(items - 1, 1)
    expected = (r / items * (1 + others) / rank).sum(axis=1) / np.maximum(np.minimum(k, r[:, 0]), 1)
    return float(mean_present(np.where(r[:, 0] > 0, expected, np.nan)))
