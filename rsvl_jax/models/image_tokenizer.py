"""Image tokenizers: the discrete targets of masked image modelling."""

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.models.layers import Frozen
from rsvl_jax.models.vit import CHANNELS, patchify


def unit_range(images: jax.Array) -> jax.Array:
    """uint8 [0, 255] or float [0, 1] pixels -> float32 [0, 1]."""
    if jnp.issubdtype(images.dtype, jnp.integer):
        return images.astype(jnp.float32) / 255
    return images.astype(jnp.float32)


class PatchCodebook(nnx.Module):
    """Each patch of pixels becomes the index of its nearest centroid; frozen, no gradient.

    `centroids` float32 [size, patch*patch*3], pixel values in [0, 1], flattened as (h, w, c): zero
    until the fitted ones are put into the frozen tree.
    """

    def __init__(self, size: int, patch_size: int):
        self.patch_size = patch_size
        shape = (size, patch_size * patch_size * CHANNELS)
        self.centroids = Frozen(jnp.zeros(shape, jnp.float32), axes=(None, None))

    def __call__(self, images: jax.Array) -> jax.Array:
        """images uint8 or float in [0, 1], [B, H, W, 3] -> ids int32 [B, N], row-major."""
        patches = patchify(unit_range(images), self.patch_size)
        centroids = self.centroids[...]
        # |p - c|^2 without |p|^2, which is the same for all centroids: one matrix product.
        product = jnp.matmul(patches, centroids.T, precision="highest")
        distance = (centroids * centroids).sum(-1) - 2 * product
        return jnp.argmin(distance, axis=-1).astype(jnp.int32)
