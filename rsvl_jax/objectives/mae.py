"""Masked autoencoding of pixels (arXiv:2111.06377): which patches, which targets, which loss."""

import jax
import jax.numpy as jnp

from rsvl_jax.losses import masked
from rsvl_jax.training.objective import Term


def removed(keep: jax.Array, count: int) -> jax.Array:
    """Visible patches int [B, Nk] of `count` -> the others, int32 [B, count - Nk], ascending."""
    return jnp.argsort(is_visible(keep, count), axis=1)[:, : count - keep.shape[1]]


def is_visible(keep: jax.Array, count: int) -> jax.Array:
    """Visible patches int [B, Nk] -> bool [B, count]."""
    return jnp.any(keep[:, :, None] == jnp.arange(count), axis=1)


def term(
    *,
    predictions: jax.Array,
    patches: jax.Array,
    positions: jax.Array,
    normalize: bool,
    row_weights: jax.Array | None = None,
) -> Term:
    """Squared error at the removed patches alone.

    predictions [B, K, P] for the patches at positions int [B, K]; patches [B, N, P]: all patches
    of the images as the encoder got them; normalize: each target patch by its own mean and
    deviation; row_weights [B], None for all ones.
    """
    weights = jnp.ones(positions.shape, jnp.float32)
    if row_weights is not None:
        weights *= row_weights[:, None]
    return masked.pixel_mse(
        predictions=predictions,
        targets=masked.gather(patches, positions),
        weights=weights,
        normalize=normalize,
    )


def unpatchify(patches: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """[B, N, patch*patch*3] -> [B, H, W, 3], inverse of `vit.patchify`; grid (rows, columns)."""
    rows, columns = grid
    side = round((patches.shape[-1] // 3) ** 0.5)
    x = patches.reshape(-1, rows, columns, side, side, 3)
    return x.swapaxes(2, 3).reshape(-1, rows * side, columns * side, 3)
