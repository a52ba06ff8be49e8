"""The block bootstrap: coverage, pairing, subsets."""

import numpy as np
import pytest

from rsvl_jax.evaluation.bootstrap import Blocks, draws_of, percentile


def correct(values):
    """Examples for a mean: the value, and one."""
    return np.stack([values, np.ones(len(values))], axis=1)


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def clustered(rng, blocks, size, spread):
    """Hits that share their block's own chance of success."""
    chance = np.clip(0.5 + spread * rng.normal(size=blocks), 0, 1).repeat(size)
    return (rng.random(blocks * size) < chance).astype(float), np.arange(blocks).repeat(size)


def test_replicates_equal_drawing_blocks_one_by_one():
    rng = np.random.default_rng(0)
    values, blocks = rng.random(12), np.array([7, 7, 3, 3, 3, 9, 9, 9, 9, 7, 3, 9])
    drawn = Blocks.draw(blocks, seed=4, replicates=50)
    found = drawn.replicates(correct(values), mean)
    for counts, value in zip(drawn.draws.astype(int), found, strict=True):
        rows = np.concatenate(
            [np.flatnonzero(blocks == b) for b, c in zip((3, 7, 9), counts, strict=True)
             for _ in range(c)]
        )  # fmt: skip
        assert value == pytest.approx(values[rows].mean())
    assert drawn.draws.sum(axis=1).tolist() == [3] * 50


def test_intervals_over_blocks_cover_and_intervals_over_tiles_do_not():
    rng = np.random.default_rng(1)
    covered = {"blocks": 0, "tiles": 0}
    for trial in range(200):
        hits, blocks = clustered(rng, blocks=40, size=25, spread=0.15)
        for name, units in (("blocks", blocks), ("tiles", np.arange(len(hits)))):
            drawn = Blocks.draw(units, seed=trial, replicates=200)
            low, high = percentile(drawn.replicates(correct(hits), mean))
            covered[name] += low <= 0.5 <= high
    # 95 % is the aim; 200 trials of a 95 % interval give at least 180 with probability 0.998.
    assert covered["blocks"] >= 180
    assert covered["tiles"] <= 160


def test_the_same_seed_gives_the_same_draws_and_pairs_models():
    blocks = np.arange(30).repeat(4)
    rng = np.random.default_rng(2)
    better = rng.random(120) + 0.2
    worse = better - 0.1
    first, second = (Blocks.draw(blocks, seed=5) for _ in range(2))
    difference = first.replicates(correct(better), mean) - second.replicates(correct(worse), mean)
    np.testing.assert_allclose(difference, 0.1)


def test_a_subset_keeps_the_draws():
    blocks = np.array([0, 0, 1, 1, 2, 2])
    drawn = Blocks.draw(blocks, seed=0, replicates=20)
    rows = np.array([0, 3, 4])
    values = np.arange(6.0)
    masked = np.zeros((6, 2))
    masked[rows] = correct(values[rows])
    np.testing.assert_allclose(
        drawn.take(rows).replicates(correct(values[rows]), mean), drawn.replicates(masked, mean)
    )
    assert "3 geographic blocks, 20 draws" in drawn.describe()


def test_counts_are_the_draws_example_by_example():
    blocks = np.array([4, 4, 9, 9, 9])
    drawn = draws_of(blocks, seed=0)
    counts = drawn.counts(5, 20)
    assert counts.shape == (20, 5)
    assert (counts[:, 0] == counts[:, 1]).all() and (counts[:, 2:] == counts[:, 2:3]).all()
    assert (counts[:, 0] + counts[:, 2] == 2).all()  # two of two blocks
    values = np.arange(5.0)
    by_hand = (counts @ values) / counts.sum(axis=1)
    np.testing.assert_allclose(drawn.replicates(correct(values), mean)[:20], by_hand)
    alone = draws_of(None, seed=0)
    assert (alone.counts(7, 30).sum(axis=1) == 7).all() and "over images, 30" in alone.describe(30)
