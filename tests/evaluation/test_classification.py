"""Plain and class-balanced accuracy, by hand."""

import numpy as np
import pytest

from rsvl_jax.evaluation import classification


def test_plain_and_balanced_accuracy_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1])
    predictions = np.array([0, 0, 0, 1, 1, 2])
    totals = classification.tallies(predictions, labels, 4).sum(axis=0)
    assert classification.accuracy(totals) == pytest.approx(4 / 6)
    # Classes 2 and 3 have no example: they are left out, and not counted as zero.
    assert classification.balanced_accuracy(totals) == pytest.approx((0.75 + 0.5) / 2)
    np.testing.assert_allclose(classification.per_class_recall(totals), [0.75, 0.5, np.nan, np.nan])


def test_statistics_accept_stacked_sums():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 3, (2, 50))
    tallies = classification.tallies(predictions, labels, 3)
    stacked = np.stack([tallies[:20].sum(axis=0), tallies.sum(axis=0)])
    for statistic in (classification.accuracy, classification.balanced_accuracy):
        expected = [statistic(tallies[:20].sum(axis=0)), statistic(tallies.sum(axis=0))]
        np.testing.assert_allclose(statistic(stacked), expected)
