"""mAP@k beside a plain loop over expanded galleries, and its chance beside shuffled ones."""

import numpy as np

from rsvl_jax.evaluation.average_precision import chance, mean_average_precision

KS = (3, 7)


def plain(scores, relevant, k):
    """One query: a list sorted by score, irrelevant first among equals."""
    ranked = [r for _, r in sorted(zip(-scores, relevant, strict=True))][:k]
    found, total = 0, 0.0
    for rank, hit in enumerate(ranked, 1):
        found += hit
        total += found / rank if hit else 0
    return total / min(k, relevant.sum())


def expected(scores, relevant, counts):
    rows = np.repeat(np.arange(scores.shape[1]), counts)
    usable = [q for q in range(len(scores)) if relevant[q, rows].any()]
    return [np.mean([plain(scores[q, rows], relevant[q, rows], k) for q in usable]) for k in KS]


def draw(seed):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.standard_normal((4, 12)), 1)  # some are equal
    return scores, rng.random((4, 12)) < 0.3, rng.integers(0, 4, (5, 12))


def test_equals_a_loop_over_the_expanded_gallery():
    for seed in range(6):
        scores, relevant, counts = draw(seed)
        found = mean_average_precision(scores, relevant, KS, counts)
        assert found.shape == (5, 2)
        wanted = [expected(scores, relevant, row) for row in counts]
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        once = mean_average_precision(scores, relevant, KS)
        np.testing.assert_allclose(once, expected(scores, relevant, np.ones(12, int)), rtol=1e-12)


def test_known_values():
    relevant = np.array([[True, True, False, False]])
    best = mean_average_precision(np.array([[4.0, 3, 2, 1]]), relevant, (1, 2, 4))
    np.testing.assert_allclose(best, 1.0)
    worst = mean_average_precision(np.array([[1.0, 2, 3, 4]]), relevant, (2, 4))
    np.testing.assert_allclose(worst, [0.0, (1 / 3 + 2 / 4) / 2])
    # An encoder that maps everything to one point finds the relevant items last.
    assert mean_average_precision(np.zeros((1, 4)), relevant, (2,)) == 0


def test_chance_is_the_mean_over_random_orders():
    rng = np.random.default_rng(0)
    relevant = np.stack([np.arange(9) < 2, np.arange(9) < 6, np.zeros(9, bool)])
    drawn = [mean_average_precision(rng.random((3, 9)), relevant, KS) for _ in range(4000)]
    for column, k in enumerate(KS):
        np.testing.assert_allclose(chance(relevant, k), np.mean(drawn, axis=0)[column], atol=0.01)
