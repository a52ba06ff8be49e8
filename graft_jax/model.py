"""The network of GRAFT: CLIP's image tower for satellite tiles, with a second head for patches."""

import jax
import jax.numpy as jnp
from flax import nnx

from graft_jax.settings import Settings
from rsvl_jax.losses.contrastive import unit
from rsvl_jax.models.clip import SIGMOID_BIAS, ClipVision, ImageTokens, Projector
from rsvl_jax.models.heads import ContrastScale
from rsvl_jax.models.image_tokenizer import unit_range


class Student(nnx.Module):
    """Satellite tower and projector; a logit scale where it is learned, a bias for sigmoid."""

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        self.settings = settings
        self.satellite = ClipVision(settings.satellite, rngs)
        self.projector = Projector(settings.satellite, rngs)
        learned = settings.learn_temperature
        self.scale = ContrastScale(settings.logit_scale) if learned else None
        start = jnp.asarray(SIGMOID_BIAS, jnp.float32)
        self.bias = nnx.Param(start, axes=()) if settings.contrast == "sigmoid" else None

    def encode(self, images: jax.Array) -> ImageTokens:
        """Images uint8 [B, H, W, 3] -> hidden tokens [B, 1+N, D] and embeddings [B, E]."""
        return self.satellite(normalise(images, self.settings.mean, self.settings.std))

    def logit_scale(self) -> jax.Array:
        """Logarithm of what multiplies the cosines, float32 []."""
        return jnp.float32(self.settings.logit_scale) if self.scale is None else self.scale()

    def embed(self, images: jax.Array) -> dict[str, jax.Array]:
        """Images uint8 [B, H, W, 3] -> unit vectors float32 in the space of the frozen towers.

        image [B, E]; pixels [B, N, E], a vector for each patch, row-major.
        """
        out = self.encode(images)
        pixels = self.projector(out.hidden[:, 1:])
        return {"image": unit(out.embedding), "pixels": unit(pixels)}


def normalise(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """Pixels uint8 (or float in [0, 1]) [..., 3] -> float32 less the mean, over the std."""
    return (unit_range(images) - jnp.asarray(mean)) / jnp.asarray(std)
