"""Masked losses: gathered form against boolean selection, pixels against loops, empty masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsvl_jax.losses import masked

B, N, K, V = 3, 10, 4, 7


def selection(seed=0):
    """Positions padded to K with weights; the same choice as a boolean mask; dense labels."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((B, N), bool)
    positions, weights = np.zeros((B, K), np.int32), np.zeros((B, K), np.float32)
    for row, count in enumerate((4, 2, 0)):
        chosen = np.sort(rng.choice(N, count, replace=False))
        mask[row, chosen] = True
        positions[row, :count], weights[row, :count] = chosen, 1
    return rng.integers(0, V, (B, N)), mask, positions, weights


def test_cross_entropy_equals_boolean_selection_with_its_gradients():
    labels, mask, positions, weights = selection()
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((B, N, 5)).astype(np.float32)
    head = rng.standard_normal((5, V)).astype(np.float32)

    def gathered(tokens, head):
        logits = masked.gather(tokens, positions) @ head
        at = masked.gather(jnp.asarray(labels), positions)
        total, count = masked.cross_entropy(logits=logits, labels=at, weights=weights)
        return total / count

    def selected(tokens, head):
        log_p = jax.nn.log_softmax((tokens @ head)[mask])
        return -jnp.mean(log_p[jnp.arange(mask.sum()), labels[mask]])

    for got, want in zip(
        jax.tree.leaves(jax.value_and_grad(gathered, (0, 1))(tokens, head)),
        jax.tree.leaves(jax.value_and_grad(selected, (0, 1))(tokens, head)),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_labels_without_weight_may_be_anything():
    logits = np.random.default_rng(0).standard_normal((1, 2, V)).astype(np.float32)
    weights = np.array([[1.0, 0.0]])
    terms = [
        masked.cross_entropy(logits=logits, labels=np.array([[3, stray]]), weights=weights)
        for stray in (-100, 0, V + 5)
    ]
    assert np.isfinite(terms[0]).all()
    np.testing.assert_array_equal(terms[0], terms[1])
    np.testing.assert_array_equal(terms[0], terms[2])


@pytest.mark.parametrize("normalize", [False, True])
def test_pixel_mse_equals_loops(normalize):
    rng = np.random.default_rng(0)
    predictions, targets = (rng.standard_normal((B, K, 12)).astype(np.float32) for _ in range(2))
    weights = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]], np.float32)
    total = 0.0
    for b, k in zip(*np.nonzero(weights), strict=True):
        target = targets[b, k].astype(np.float64)
        if normalize:  # torch.var is unbiased: facebookresearch/mae, models_mae.py
            target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
        total += np.mean((predictions[b, k] - target) ** 2)
    got = masked.pixel_mse(
        predictions=predictions, targets=targets, weights=weights, normalize=normalize
    )
    np.testing.assert_allclose(got, (total, 5), rtol=1e-5)


def test_flat_patches_normalise_to_zero():
    flat = jnp.full((1, 1, 12), 0.3)
    term = masked.pixel_mse(
        predictions=jnp.zeros((1, 1, 12)), targets=flat, weights=jnp.ones((1, 1)), normalize=True
    )
    assert float(term[0]) == pytest.approx(0, abs=1e-6)


def test_empty_selections_are_zero_with_zero_gradients():
    def losses(x):
        weights = jnp.zeros((B, K))
        terms = (
            masked.cross_entropy(logits=x, labels=jnp.zeros((B, K), int), weights=weights),
            masked.pixel_mse(predictions=x, targets=x * 0, weights=weights, normalize=True),
        )
        return sum(total / jnp.maximum(count, 1) for total, count in terms), terms

    (value, terms), grad = jax.value_and_grad(losses, has_aux=True)(jnp.ones((B, K, V)))
    assert float(value) == 0
    np.testing.assert_array_equal(terms, np.zeros((2, 2)))
    np.testing.assert_array_equal(grad, np.zeros((B, K, V)))


def test_losses_are_float32_whatever_comes_in():
    x = jnp.linspace(-40, 40, B * K * V).reshape(B, K, V)
    labels, weights = jnp.zeros((B, K), int), jnp.ones((B, K), jnp.bfloat16)
    low = masked.cross_entropy(logits=x.astype(jnp.bfloat16), labels=labels, weights=weights)
    high = masked.cross_entropy(
        logits=x.astype(jnp.bfloat16).astype(jnp.float32), labels=labels, weights=weights
    )
    assert low[0].dtype == low[1].dtype == jnp.float32
    np.testing.assert_array_equal(low, high)
