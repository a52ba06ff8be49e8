"""Pooling by attention: a learned query gathers tokens into one vector."""

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.models import attention
from rsvl_jax.models.layers import LayerNorm, normal, param
from rsvl_jax.models.transformer import Attention, Mlp, TransformerConfig


class AttentionPool(nnx.Module):
    """SigLIP's head (arXiv:2303.15343; MAP of arXiv:2106.04560): attention from a probe, LN, MLP.

    x = attention(probe, tokens); x + mlp(norm(x)). Nothing goes around the attention.
    """

    def __init__(self, cfg: TransformerConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.probe = param(rngs, normal(cfg.width**-0.5), (cfg.width,), (None,))
        self.attention = Attention(cfg, rngs)
        self.norm = LayerNorm(cfg.width, rngs, eps=cfg.ln_eps)
        self.mlp = Mlp(cfg, rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, S, D] -> [B, D]."""
        kernel = self.attention.qkv.astype(tokens.dtype)
        bias = self.attention.qkv_bias.astype(tokens.dtype)
        query = jnp.einsum("d,dhc->hc", self.probe.astype(tokens.dtype), kernel[:, :, 0])
        query = jnp.broadcast_to(query + bias[:, 0], (tokens.shape[0], 1, *query.shape))
        key, value = (
            jnp.einsum("bsd,dhc->bshc", tokens, kernel[:, :, part]) + bias[:, part]
            for part in (1, 2)
        )
        gathered = attention.attend(query, key, value, None, self.cfg.attention)
        x = self.attention.out(gathered.reshape(tokens.shape[0], -1))
        return x + self.mlp(self.norm(x))
