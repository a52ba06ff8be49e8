"""Losses of masked modelling, on predictions gathered at K positions a sample."""

import jax
import jax.numpy as jnp

Sum = tuple[jax.Array, jax.Array]


def gather(values: jax.Array, positions: jax.Array) -> jax.Array:
    """values [B, N, ...] at positions int [B, K] -> [B, K, ...].

    Boolean selection would change shapes; a fixed K with weights does not.
    """
    index = positions.reshape(*positions.shape, *(1,) * (values.ndim - 2))
    return jnp.take_along_axis(values, index, axis=1)


def cross_entropy(*, logits: jax.Array, labels: jax.Array, weights: jax.Array) -> Sum:
    """Cross-entropy of logits [B, K, V] to labels int [B, K], weighted by weights [B, K].

    Labels where the weight is 0 may be any number. Returns (sum, sum of weights), float32 [].
    """
    logits = logits.astype(jnp.float32)
    weights = weights.astype(jnp.float32)
    labels = jnp.clip(labels, 0, logits.shape[-1] - 1)
    wanted = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - wanted
    return jnp.sum(losses * weights), jnp.sum(weights)


def pixel_mse(
    *,
    predictions: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    normalize: bool = False,
) -> Sum:
    """Mean squared error over the values of each patch, summed over weighted patches.

    predictions, targets [B, K, P], weights [B, K]; normalize: the target is each patch less its
    mean, over its deviation, see `patch_statistics` (facebookresearch/mae, norm_pix_loss).
    Returns (sum, sum of weights), float32 [].
    """
    targets = targets.astype(jnp.float32)
    weights = weights.astype(jnp.float32)
    if normalize:
        mean, deviation = patch_statistics(targets)
        targets = (targets - mean) / deviation
    losses = jnp.mean((predictions.astype(jnp.float32) - targets) ** 2, axis=-1)
    return jnp.sum(losses * weights), jnp.sum(weights)


def patch_statistics(patches: jax.Array) -> tuple[jax.Array, jax.Array]:
    """patches [..., P] -> their mean and deviation, float32 [..., 1].

    The variance is the unbiased one plus 1e-6, as in facebookresearch/mae models_mae.py.
    """
    patches = patches.astype(jnp.float32)
    variance = jnp.var(patches, axis=-1, keepdims=True, ddof=1)
    return jnp.mean(patches, axis=-1, keepdims=True), jnp.sqrt(variance + 1e-6)
