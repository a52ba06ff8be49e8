"""What an image's patches say of a box: their mean, each by how much of it lies in the box."""

import jax
import jax.numpy as jnp


def shares(boxes: jax.Array, *, grid: tuple[int, int], patch_size: int) -> jax.Array:
    """Boxes [..., 4] (xmin, ymin, xmax, ymax in pixels) -> float32 [..., N], N = rows * columns.

    Of each patch the area inside the box by that of all patches inside it, so that they add up to
    one; all 0 for an empty box. Patches row by row, as `vit.patchify` cuts them.
    """
    left, top, right, bottom = jnp.moveaxis(boxes.astype(jnp.float32), -1, 0)
    high = _overlap(top, bottom, grid[0], patch_size)
    wide = _overlap(left, right, grid[1], patch_size)
    area = (high[..., :, None] * wide[..., None, :]).reshape(*boxes.shape[:-1], -1)
    return area / jnp.maximum(area.sum(-1, keepdims=True), 1e-6)


def pool(
    patches: jax.Array, boxes: jax.Array, *, grid: tuple[int, int], patch_size: int
) -> jax.Array:
    """patches [B, N, D], boxes [B, R, 4] -> means of the patches in a box, float32 [B, R, D]."""
    weights = shares(boxes, grid=grid, patch_size=patch_size)
    return jnp.einsum("brn,bnd->brd", weights, patches.astype(jnp.float32))


def _overlap(low: jax.Array, high: jax.Array, count: int, side: int) -> jax.Array:
    """Pixels that [low, high) [...] has in each of `count` intervals of `side`: [..., count]."""
    start = jnp.arange(count) * side
    inside = jnp.minimum(high[..., None], start + side) - jnp.maximum(low[..., None], start)
    return jnp.maximum(inside, 0.0)
