"""FLAVA's multimodal encoder: self-attention over image and text tokens together."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.models.layers import LayerNorm, param, zeros
from rsvl_jax.models.transformer import Encoded, Stack, TransformerConfig, linear


@dataclass(frozen=True)
class FusionConfig:
    """Widths of the two inputs. mask_text_pads: False lets every token look at text padding.

    FLAVA as first published saw the padding (facebookresearch/multimodal#530); only parity with
    weights trained that way is a reason for False.
    """

    image_width: int
    text_width: int
    transformer: TransformerConfig
    mask_text_pads: bool = True


class Fusion(nnx.Module):
    """[CLS_M | Linear(image) | Linear(text)] -> pre-LN blocks -> LN; no positions, as FLAVA."""

    def __init__(self, cfg: FusionConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        width = cfg.transformer.width
        axes = ("embed", "features")
        self.image_projection = linear(cfg.transformer, rngs, cfg.image_width, width, axes)
        self.text_projection = linear(cfg.transformer, rngs, cfg.text_width, width, axes)
        self.class_token = param(rngs, zeros, (width,), (None,))
        self.stack = Stack(cfg.transformer, rngs)
        self.norm = LayerNorm(width, rngs, eps=cfg.transformer.ln_eps)

    def __call__(
        self,
        image_hidden: jax.Array,
        text_hidden: jax.Array,
        text_mask: jax.Array | None = None,
        *,
        rng: jax.Array | None = None,
    ) -> Encoded:
        """Both towers' `hidden`, [B, 1+N, Di] and [B, T, Dt] -> [B, 1 + (1+N) + T, D] twice.

        text_mask bool [B, T], True: a token. Slices of the result: 0 is CLS_M, 1 is the image's
        class token, 2 : 2+N the patches, the last T the text. rng: key for dropout.
        """
        image = self.image_projection(image_hidden)
        text = self.text_projection(text_hidden)
        first = self.class_token.astype(image.dtype)
        first = jnp.broadcast_to(first, (image.shape[0], 1, image.shape[2]))
        mask = None
        if text_mask is not None and self.cfg.mask_text_pads:
            seen = jnp.ones((image.shape[0], 1 + image.shape[1]), bool)
            mask = jnp.concatenate([seen, text_mask.astype(bool)], axis=1)
        hidden = self.stack(jnp.concatenate([first, image, text], axis=1), mask, rng=rng)
        return Encoded(hidden, self.norm(hidden))
