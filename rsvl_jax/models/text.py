"""Text encoder: BERT embeddings, then FLAVA's pre-LN blocks, or BERT's own post-LN ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.errors import UserError
from rsvl_jax.models.layers import LayerNorm, normal, param
from rsvl_jax.models.transformer import Encoded, Stack, TransformerConfig, dropout

PAD_ID = 0


@dataclass(frozen=True)
class TextConfig:
    """Vocabulary and longest text, in tokens.

    token_types: BERT's two segments, RoBERTa's one; only the first is ever used, the rest is kept
    for weights from outside.
    """

    vocab_size: int
    max_length: int
    transformer: TransformerConfig
    token_types: int = 2


class TextEncoder(nnx.Module):
    """FLAVA's text encoder: LN(word + position + type), pre-LN blocks, LN.

    With the transformer's `norm` "post" it is BERT's, which has no norm at the end.
    """

    def __init__(self, cfg: TextConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        width, eps = cfg.transformer.width, cfg.transformer.ln_eps

        def words(key: jax.Array, shape: Sequence[int]) -> jax.Array:
            return normal()(key, shape).at[PAD_ID].set(0.0)

        self.word_embed = param(rngs, words, (cfg.vocab_size, width), ("vocab", "embed"))
        axes = ("positions", "embed")
        self.position_embed = param(rngs, normal(), (cfg.max_length, width), axes)
        self.type_embed = param(rngs, normal(), (cfg.token_types, width), (None, "embed"))
        self.embed_norm = LayerNorm(width, rngs, eps=eps)
        self.stack = Stack(cfg.transformer, rngs)
        self.norm = LayerNorm(width, rngs, eps=eps) if cfg.transformer.norm == "pre" else None

    def __call__(
        self, ids: jax.Array, mask: jax.Array | None = None, *, rng: jax.Array | None = None
    ) -> Encoded:
        """ids int [B, T], mask bool [B, T] (True: a token, False: padding) -> [B, T, D] twice.

        T may be shorter than max_length. No position looks at padding. rng: key for dropout.
        """
        x = self.embed(ids)
        if rng is not None:
            embed_rng, rng = jax.random.split(rng)
            x = dropout(x, self.cfg.transformer.dropout, embed_rng)
        hidden = self.stack(x, mask, rng=rng)
        return Encoded(hidden, hidden if self.norm is None else self.norm(hidden))

    def embed(self, ids: jax.Array) -> jax.Array:
        """ids int [B, T] -> normalised embeddings float32 [B, T, D], the input of the blocks."""
        length = ids.shape[1]
        if length > self.cfg.max_length:
            raise UserError(f"text of {length} tokens, but positions end at {self.cfg.max_length}")
        x = self.word_embed[...][ids] + self.position_embed[:length] + self.type_embed[0]
        return self.embed_norm(x.astype(jnp.float32))
