"""Heads: what turns encoder tokens into logits, pixels and embeddings."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.models.layers import LayerNorm, Linear, activation, normal, param
from rsvl_jax.models.positions import sincos_2d
from rsvl_jax.models.transformer import Stack, TransformerConfig


class Projection(Linear):
    """Linear map into a shared embedding space, [..., din] -> [..., dout]; not normalised."""

    def __init__(
        self, din: int, dout: int, rngs: nnx.Rngs, *, bias: bool = True, dtype: Any = jnp.float32
    ):
        super().__init__(din, dout, rngs, axes=("embed", "features"), bias=bias, dtype=dtype)


class MaskedTokenHead(nnx.Module):
    """FLAVA's masked prediction head: Linear, GELU, LN, Linear to the vocabulary, plus bias.

    The decoder is not tied to any embedding. Meant for gathered positions.
    """

    def __init__(
        self,
        width: int,
        vocab_size: int,
        rngs: nnx.Rngs,
        *,
        activation: str = "gelu",
        ln_eps: float = 1e-12,
        dtype: Any = jnp.float32,
    ):
        self.activation = activation
        self.dense = Linear(width, width, rngs, axes=("embed", "features"), dtype=dtype)
        self.norm = LayerNorm(width, rngs, eps=ln_eps)
        self.decoder = Linear(width, vocab_size, rngs, axes=("embed", "vocab"), dtype=dtype)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """tokens [..., D] -> logits [..., V] in the compute dtype."""
        return self.decoder(self.norm(activation(self.activation)(self.dense(tokens))))


class MatchingHead(nnx.Module):
    """FLAVA's image-text matching head: Linear, tanh, Linear(2) on the fused class token."""

    def __init__(self, width: int, rngs: nnx.Rngs, *, dtype: Any = jnp.float32):
        self.pooler = Linear(width, width, rngs, axes=("embed", "features"), dtype=dtype)
        self.classifier = Linear(width, 2, rngs, axes=("embed", "classes"), dtype=dtype)

    def __call__(self, class_token: jax.Array) -> jax.Array:
        """class_token [B, D] -> logits [B, 2]; index 1 means that image and text match."""
        return self.classifier(jnp.tanh(self.pooler(class_token)))


class PixelHead(nnx.Module):
    """Two-layer perceptron from fused tokens to the pixels of their patch.

    As the multimodal masked autoencoder of the open_clip FLAVA fork (gmittal/open_clip flava-dev).
    """

    def __init__(
        self,
        width: int,
        patch_dim: int,
        rngs: nnx.Rngs,
        *,
        activation: str = "gelu",
        dtype: Any = jnp.float32,
    ):
        self.activation = activation
        self.dense = Linear(width, width, rngs, axes=("embed", "features"), dtype=dtype)
        self.out = Linear(width, patch_dim, rngs, axes=("embed", "patch"), dtype=dtype)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """tokens [..., D] -> pixels [..., patch*patch*3], flattened as `vit.patchify` does."""
        return self.out(activation(self.activation)(self.dense(tokens)))


@dataclass(frozen=True)
class MaeDecoderConfig:
    """Width of the encoder, patches along each side (rows, columns), pixels values a patch."""

    encoder_width: int
    grid: tuple[int, int]
    patch_dim: int
    transformer: TransformerConfig


class MaeDecoder(nnx.Module):
    """The light decoder of masked autoencoders (arXiv:2111.06377): 8 blocks, 512 wide there."""

    def __init__(self, cfg: MaeDecoderConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        width, dtype = cfg.transformer.width, cfg.transformer.dtype
        axes = ("embed", "features")
        self.embed = Linear(cfg.encoder_width, width, rngs, axes=axes, dtype=dtype)
        self.mask_token = param(rngs, normal(), (width,), (None,))
        self.stack = Stack(cfg.transformer, rngs)
        self.norm = LayerNorm(width, rngs, eps=cfg.transformer.ln_eps)
        self.out = Linear(width, cfg.patch_dim, rngs, axes=("embed", "patch"), dtype=dtype)

    def __call__(
        self, tokens: jax.Array, keep: jax.Array, *, rng: jax.Array | None = None
    ) -> jax.Array:
        """tokens [B, 1+Nk, D] of the visible patches `keep` int [B, Nk] -> pixels [B, N, P].

        All N patches are predicted; the loss takes the hidden ones. rng: key for dropout.
        """
        x = self.embed(tokens)
        rows = jnp.arange(x.shape[0])[:, None]
        count = self.cfg.grid[0] * self.cfg.grid[1]
        hidden = jnp.broadcast_to(self.mask_token.astype(x.dtype), (x.shape[0], count, x.shape[2]))
        patches = hidden.at[rows, keep].set(x[:, 1:])
        patches += jnp.asarray(sincos_2d(self.cfg.grid, x.shape[2]), x.dtype)
        x = self.stack(jnp.concatenate([x[:, :1], patches], axis=1), rng=rng)
        return self.out(self.norm(x)[:, 1:])


class ContrastScale(nnx.Module):
    """A learned logit scale, held as its logarithm: exp(value) multiplies cosine similarities."""

    def __init__(self, init: float = math.log(1 / 0.07)):
        self.value = nnx.Param(jnp.asarray(init, jnp.float32), axes=())

    def __call__(self) -> jax.Array:
        """The logarithm of the scale, float32 []."""
        return self.value[...]


class ContrastBias(nnx.Module):
    """A learned logit bias, added to scaled similarities (SigLIP, arXiv:2303.15343)."""

    def __init__(self, init: float):
        self.value = nnx.Param(jnp.asarray(init, jnp.float32), axes=())

    def __call__(self) -> jax.Array:
        """The bias, float32 []."""
        return self.value[...]


class PairProjections(nnx.Module):
    """FLAVA's global contrast: a projection, with bias, of either class token, and its scale.

    scaled: with the scale, which encoders published without their losses lack.
    """

    def __init__(
        self,
        image_width: int,
        text_width: int,
        embed_dim: int,
        rngs: nnx.Rngs,
        *,
        scaled: bool = True,
    ):
        self.image = Projection(image_width, embed_dim, rngs)
        self.text = Projection(text_width, embed_dim, rngs)
        self.scale = ContrastScale() if scaled else None
