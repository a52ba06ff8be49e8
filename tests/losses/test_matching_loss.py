"""Matching: FLAVA's row rule, and negatives that are never a match."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsvl_jax.losses import contrastive, matching


def test_matching_is_binary_cross_entropy():
    logits = np.random.default_rng(0).standard_normal((5, 2))
    labels = np.array([1, 0, 1, 1, 0])
    p = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    want = -np.sum(np.log(np.where(labels == 1, p, 1 - p)))
    np.testing.assert_allclose(
        matching.matching(logits=logits, labels=labels), (want, 5), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("labels", "rows"), [([1, 0, 1], [1, 0, 1]), ([0, 0, 0], [1, 1, 1]), ([1, 1, 1], [1, 1, 1])]
)
def test_rows_are_the_matching_ones_or_all(labels, rows):
    np.testing.assert_array_equal(matching.matching_rows(jnp.array(labels)), rows)


def test_hard_negatives_never_pick_an_identical_caption():
    ids = jnp.array([0, 1, 0, 2, 2, 3, 0, 1])
    excluded = contrastive.identical(ids)
    # The forbidden columns are by far the most similar ones.
    similarity = jnp.where(excluded, 50.0, 0.0)
    draw = jax.jit(
        jax.vmap(
            lambda key: matching.hard_negatives(similarity=similarity, excluded=excluded, rng=key)
        )
    )
    columns, weights = draw(jax.random.split(jax.random.key(0), 500))
    assert np.all(np.asarray(weights) == 1)
    assert not np.any(np.asarray(ids)[np.asarray(columns)] == np.asarray(ids)[None])
    # and every permitted column is drawn
    for row in range(8):
        assert set(np.unique(columns[:, row])) == set(np.flatnonzero(~np.asarray(excluded)[row]))


def test_hard_negatives_follow_the_softmax():
    similarity = jnp.log(jnp.array([[1.0, 1.0, 3.0], [1.0, 1.0, 1.0], [1.0, 9.0, 1.0]]))
    draw = jax.vmap(
        lambda key: matching.hard_negatives(
            similarity=similarity, excluded=jnp.eye(3, dtype=bool), rng=key
        )[0]
    )
    columns = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    assert np.mean(columns[:, 0] == 2) == pytest.approx(0.75, abs=0.03)
    assert np.mean(columns[:, 2] == 1) == pytest.approx(0.9, abs=0.03)


def test_rows_without_a_negative_weigh_nothing():
    excluded = jnp.array([[True, True], [False, True]])
    _, weights = matching.hard_negatives(
        similarity=jnp.zeros((2, 2)), excluded=excluded, rng=jax.random.key(0)
    )
    np.testing.assert_array_equal(weights, [0, 1])
