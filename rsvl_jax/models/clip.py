"""CLIP's two towers (arXiv:2103.00020) on the shared backbone; sizes of openai/CLIP by name."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.errors import UserError
from rsvl_jax.models import vit
from rsvl_jax.models.heads import ContrastScale, Projection
from rsvl_jax.models.layers import LayerNorm, normal, param
from rsvl_jax.models.text import TextConfig
from rsvl_jax.models.transformer import Stack, TransformerConfig
from rsvl_jax.models.vit import CHANNELS, Vit, VitConfig

LN_EPS = 1e-5
SIGMOID_BIAS = -10.0  # SigLIP's start: nearly all pairs are negatives
POOLS = ("last", "eot")
VOCABULARY, CONTEXT, EOT_ID = 49_408, 77, 49_407

# ViT and patch, text width and heads, embedding.
_SIZES: dict[str, tuple[int, int, int]] = {
    "B/32": (512, 8, 512),
    "B/16": (512, 8, 512),
    "L/14": (768, 12, 768),
}
_TEXT_DEPTH = 12


@dataclass(frozen=True)
class ClipVisionConfig:
    """A ViT, see `vision_config`, and the dimension of the shared space."""

    vit: VitConfig
    embed_dim: int

    def __post_init__(self) -> None:
        if not self.vit.class_token:
            raise UserError("CLIP's image tower needs a class token: build its ViT with one")


@dataclass(frozen=True)
class ClipTextConfig:
    """A text transformer and the dimension of the shared space.

    pool: the token that stands for a text: "last" (before the padding), or "eot", the first that is
    `eot_id`, as CLIP's tokenizer ends every text.
    """

    text: TextConfig
    embed_dim: int
    pool: str = "last"
    eot_id: int = EOT_ID

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UserError(f"unknown pool {self.pool!r}: choose one of {POOLS}")


@dataclass(frozen=True)
class ClipConfig:
    """Both towers. logit_scale_init: a logarithm; sigmoid: with SigLIP's bias."""

    vision: ClipVisionConfig
    text: ClipTextConfig
    logit_scale_init: float = 2.6592  # ln(1 / 0.07)
    sigmoid: bool = False

    def __post_init__(self) -> None:
        if self.vision.embed_dim != self.text.embed_dim:
            raise UserError(
                f"images are embedded in {self.vision.embed_dim} dimensions, texts in "
                f"{self.text.embed_dim}: they are compared, choose one"
            )


def vision_config(
    *, image_size: int, patch_size: int, embed_dim: int, transformer: TransformerConfig
) -> ClipVisionConfig:
    """CLIP's ViT of these sizes: class token, norm before the blocks, no mask token."""
    tower = VitConfig(image_size, patch_size, transformer, mask_token=False, stem_norm=True)
    return ClipVisionConfig(tower, embed_dim)


def preset(name: str, image_size: int = 224, **changes: Any) -> ClipConfig:
    """The config of "B/32", "B/16" or "L/14"; `changes` go to both TransformerConfigs.

    OpenAI's weights have the activation "quick_gelu", most others "gelu"; the wrong one costs
    accuracy in silence. Raises UserError for an unknown name.
    """
    if name not in _SIZES:
        raise UserError(f"unknown CLIP {name!r}: choose one of {sorted(_SIZES)}")
    width, heads, embed_dim = _SIZES[name]
    options = {"activation": "quick_gelu", "ln_eps": LN_EPS, **changes}
    image = vit.preset(name, image_size, **options)
    words = TransformerConfig(width, _TEXT_DEPTH, heads, 4 * width, **options)
    return ClipConfig(
        ClipVisionConfig(replace(image, mask_token=False, stem_norm=True), embed_dim),
        ClipTextConfig(TextConfig(VOCABULARY, CONTEXT, words), embed_dim, pool="eot"),
    )


class ImageTokens(NamedTuple):
    """hidden [B, 1+N, D]: the raw last hidden state; embedding float32 [B, E]: not normalised."""

    hidden: jax.Array
    embedding: jax.Array


class ClipVision(nnx.Module):
    """CLIP's image tower: a ViT, its final norm and a projection without bias on the class token.

    Projections are in float32 whatever the towers compute in: a logit scale of 100 would show the
    rounding.
    """

    def __init__(self, cfg: ClipVisionConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.vit = Vit(cfg.vit, rngs)
        self.projection = Projection(cfg.vit.transformer.width, cfg.embed_dim, rngs, bias=False)

    def __call__(self, images: jax.Array) -> ImageTokens:
        """images float [B, H, W, 3], normalised; any size that the patch divides."""
        hidden = self.vit.encode(images)
        return ImageTokens(hidden, self.project(hidden[:, 0]))

    def project(self, hidden: jax.Array) -> jax.Array:
        """Hidden tokens [..., D] -> float32 [..., E], as the class token is projected."""
        return self.projection(self.vit.norm(hidden))


class ClipText(nnx.Module):
    """CLIP's text tower: each token sees those before it; one stands for the text."""

    def __init__(self, cfg: ClipTextConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        stack, width = cfg.text.transformer, cfg.text.transformer.width
        self.word_embed = param(rngs, normal(), (cfg.text.vocab_size, width), ("vocab", "embed"))
        axes = ("positions", "embed")
        self.position_embed = param(rngs, normal(), (cfg.text.max_length, width), axes)
        self.stack = Stack(stack, rngs)
        self.norm = LayerNorm(width, rngs, eps=stack.ln_eps)
        self.projection = Projection(width, cfg.embed_dim, rngs, bias=False)

    def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """ids int [B, T], mask bool [B, T] (True: a token) -> float32 [B, E], not normalised.

        Padding comes after the text, where no token of the text looks. T may be shorter than
        max_length. Raises UserError where it is longer.
        """
        batch, length = ids.shape
        if length > self.cfg.text.max_length:
            limit = self.cfg.text.max_length
            raise UserError(f"text of {length} tokens, but positions end at {limit}")
        before = jnp.tril(jnp.ones((length, length), bool))
        x = self.word_embed[...][ids] + self.position_embed[:length]
        hidden = self.stack(x, jnp.broadcast_to(before, (batch, length, length)))
        token = jnp.take_along_axis(hidden, self._place(ids, mask)[:, None, None], axis=1)[:, 0]
        return self.projection(self.norm(token))

    def _place(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """Where the token stands that stands for the text, int [B]."""
        if self.cfg.pool == "eot":
            return jnp.argmax(ids == self.cfg.eot_id, axis=1)
        return jnp.maximum(mask.sum(axis=1, dtype=jnp.int32) - 1, 0)


class Clip(nnx.Module):
    """Both towers and what their contrast learns: the logit scale, and a bias for sigmoid."""

    def __init__(self, cfg: ClipConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.image = ClipVision(cfg.vision, rngs)
        self.text = ClipText(cfg.text, rngs)
        self.scale = ContrastScale(cfg.logit_scale_init)
        start = jnp.asarray(SIGMOID_BIAS, jnp.float32)
        self.bias = nnx.Param(start, axes=()) if cfg.sigmoid else None


def vision_flops(cfg: ClipVisionConfig) -> float:
    """FLOPs of the forward pass for one image: its matrix products, [m, k] with [k, n] as 2mkn."""
    patches = cfg.vit.grid[0] * cfg.vit.grid[1]
    width = cfg.vit.transformer.width
    embed = 2 * patches * cfg.vit.patch_size**2 * CHANNELS * width
    return embed + _stack_flops(cfg.vit.transformer, 1 + patches) + 2 * width * cfg.embed_dim


def text_flops(cfg: ClipTextConfig) -> float:
    """Likewise for one text of the full length."""
    stack = cfg.text.transformer
    return _stack_flops(stack, cfg.text.max_length) + 2 * stack.width * cfg.embed_dim


def _stack_flops(cfg: TransformerConfig, length: int) -> float:
    """Four square matrices, the MLP, and attention's two products."""
    matrices = 4 * cfg.width**2 + 2 * cfg.width * cfg.mlp_dim
    return cfg.depth * (2 * length * matrices + 4 * length**2 * cfg.width)
