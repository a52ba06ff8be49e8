"""CLIP's two towers (arXiv:2103.00020) on the shared backbone, and what SigLIP does otherwise.

Sizes of openai/CLIP by name.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.errors import UserError
from rsvl_jax.models import vit
from rsvl_jax.models.heads import ContrastBias, ContrastScale, Projection
from rsvl_jax.models.layers import LayerNorm, normal, param
from rsvl_jax.models.pooling import AttentionPool
from rsvl_jax.models.text import TextConfig
from rsvl_jax.models.transformer import Stack, TransformerConfig
from rsvl_jax.models.vit import CHANNELS, Vit, VitConfig

LN_EPS = 1e-5
SIGMOID_BIAS = -10.0  # SigLIP's start: nearly all pairs are negatives
IMAGE_POOLS = ("class", "attention")
POOLS = ("last", "eot", "end")
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
    """A ViT, see `vision_config`, and the dimension of the shared space.

    pool: what stands for an image: its "class" token (CLIP), or what "attention" gathers from all
    patches (SigLIP). projection: a linear map of that, without bias; without it embed_dim is the
    width.
    """

    vit: VitConfig
    embed_dim: int
    pool: str = "class"
    projection: bool = True

    def __post_init__(self) -> None:
        if self.pool not in IMAGE_POOLS:
            raise UserError(f"unknown pool {self.pool!r}: choose one of {IMAGE_POOLS}")
        if self.pool == "class" and not self.vit.class_token:
            raise UserError("CLIP's image tower needs a class token: build its ViT with one")
        _check_width(self.embed_dim, self.vit.transformer.width, self.projection)


@dataclass(frozen=True)
class ClipTextConfig:
    """A text transformer and the dimension of the shared space.

    pool: the token that stands for a text: "last" (before the padding), "eot", the first that is
    `eot_id`, as CLIP's tokenizer ends every text, or "end", the last position, padding or not ·
    causal: each token sees those before it; else all see all, padding too, as SigLIP was trained
    on texts padded to max_length · projection: a linear map, with or without a bias, of the token;
    without it embed_dim is the width.
    """

    text: TextConfig
    embed_dim: int
    pool: str = "last"
    eot_id: int = EOT_ID
    causal: bool = True
    projection: bool = True
    projection_bias: bool = False

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise UserError(f"unknown pool {self.pool!r}: choose one of {POOLS}")
        _check_width(self.embed_dim, self.text.transformer.width, self.projection)


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


def _check_width(embed_dim: int, width: int, projection: bool) -> None:
    if not projection and embed_dim != width:
        raise UserError(f"without a projection embed_dim is the width, {width}, not {embed_dim}")


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

    Or SigLIP's, where attention gathers the normed patches. Projections are in float32 whatever
    the towers compute in: a logit scale of 100 would show the rounding.
    """

    def __init__(self, cfg: ClipVisionConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        stack = cfg.vit.transformer
        self.vit = Vit(cfg.vit, rngs)
        self.pool = AttentionPool(stack, rngs) if cfg.pool == "attention" else None
        projection = Projection(stack.width, cfg.embed_dim, rngs, bias=False)
        self.projection = projection if cfg.projection else None

    def __call__(self, images: jax.Array) -> ImageTokens:
        """images float [B, H, W, 3], normalised; any size that the patch divides."""
        hidden = self.vit.encode(images)
        if self.pool is None:
            return ImageTokens(hidden, self.project(hidden[:, 0]))
        return ImageTokens(hidden, self._project(self.pool(self.vit.norm(hidden))))

    def project(self, hidden: jax.Array) -> jax.Array:
        """Hidden tokens [..., D] -> float32 [..., E], as the class token is projected."""
        return self._project(self.vit.norm(hidden))

    def _project(self, x: jax.Array) -> jax.Array:
        return x.astype(jnp.float32) if self.projection is None else self.projection(x)


class Projector(nnx.Module):
    """Layer norm and a linear map without bias, on raw hidden tokens: [..., D] -> [..., E].

    GRAFT's head for patches: in shape what CLIP does to its class token, from whose weights it
    starts (utkarshmall13/graft_demo holds both).
    """

    def __init__(self, cfg: ClipVisionConfig, rngs: nnx.Rngs):
        stack = cfg.vit.transformer
        self.norm = LayerNorm(stack.width, rngs, eps=stack.ln_eps)
        self.linear = Projection(stack.width, cfg.embed_dim, rngs, bias=False)

    def __call__(self, hidden: jax.Array) -> jax.Array:
        """hidden [..., D] -> float32 [..., E], not normalised."""
        return self.linear(self.norm(hidden))


class ClipText(nnx.Module):
    """CLIP's text tower; one token stands for the text."""

    def __init__(self, cfg: ClipTextConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        stack, width = cfg.text.transformer, cfg.text.transformer.width
        self.word_embed = param(rngs, normal(), (cfg.text.vocab_size, width), ("vocab", "embed"))
        axes = ("positions", "embed")
        self.position_embed = param(rngs, normal(), (cfg.text.max_length, width), axes)
        self.stack = Stack(stack, rngs)
        self.norm = LayerNorm(width, rngs, eps=stack.ln_eps)
        projection = Projection(width, cfg.embed_dim, rngs, bias=cfg.projection_bias)
        self.projection = projection if cfg.projection else None

    def __call__(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """ids int [B, T], mask bool [B, T] (True: a token) -> float32 [B, E], not normalised.

        Padding comes after the text, where no token of a causal tower looks. T may be shorter than
        max_length (see ClipTextConfig.causal). Raises UserError where it is longer.
        """
        batch, length = ids.shape
        if length > self.cfg.text.max_length:
            limit = self.cfg.text.max_length
            raise UserError(f"text of {length} tokens, but positions end at {limit}")
        x = self.word_embed[...][ids] + self.position_embed[:length]
        seen = None
        if self.cfg.causal:
            before = jnp.tril(jnp.ones((length, length), bool))
            seen = jnp.broadcast_to(before, (batch, length, length))
        hidden = self.stack(x, seen)
        token = jnp.take_along_axis(hidden, self._place(ids, mask)[:, None, None], axis=1)[:, 0]
        token = self.norm(token)
        return token.astype(jnp.float32) if self.projection is None else self.projection(token)

    def _place(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """Where the token stands that stands for the text, int [B]."""
        if self.cfg.pool == "eot":
            return jnp.argmax(ids == self.cfg.eot_id, axis=1)
        if self.cfg.pool == "end":
            return jnp.full(ids.shape[0], ids.shape[1] - 1)
        return jnp.maximum(mask.sum(axis=1, dtype=jnp.int32) - 1, 0)


class Clip(nnx.Module):
    """Both towers and what their contrast learns: the logit scale, and a bias for sigmoid."""

    def __init__(self, cfg: ClipConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.image = ClipVision(cfg.vision, rngs)
        self.text = ClipText(cfg.text, rngs)
        self.scale = ContrastScale(cfg.logit_scale_init)
        self.bias = ContrastBias(SIGMOID_BIAS) if cfg.sigmoid else None


def vision_flops(cfg: ClipVisionConfig) -> float:
    """FLOPs of the forward pass for one image: its matrix products, [m, k] with [k, n] as 2mkn."""
    patches = cfg.vit.grid[0] * cfg.vit.grid[1]
    stack, width = cfg.vit.transformer, cfg.vit.transformer.width
    tokens = patches + cfg.vit.class_token
    total = 2 * patches * cfg.vit.patch_size**2 * CHANNELS * width + _stack_flops(stack, tokens)
    if cfg.pool == "attention":
        # Keys and values of all tokens; query, output and MLP of one.
        total += 4 * tokens * width * (width + 1) + 4 * width * (width + stack.mlp_dim)
    return total + 2 * width * cfg.embed_dim * cfg.projection


def text_flops(cfg: ClipTextConfig) -> float:
    """Likewise for one text of the full length."""
    stack = cfg.text.transformer
    projection = 2 * stack.width * cfg.embed_dim * cfg.projection
    return _stack_flops(stack, cfg.text.max_length) + projection


def _stack_flops(cfg: TransformerConfig, length: int) -> float:
    """Four square matrices, the MLP, and attention's two products."""
    matrices = 4 * cfg.width**2 + 2 * cfg.width * cfg.mlp_dim
    return cfg.depth * (2 * length * matrices + 4 * length**2 * cfg.width)
