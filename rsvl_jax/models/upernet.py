"""UPerNet (arXiv:1807.10221) over a plain ViT, as mmsegmentation builds it for MAE and BEiT.

Hidden states of four depths, all on the grid of patches, are brought to 4, 2, 1 and 1/2 times its
size; pyramid pooling of the coarsest, a feature pyramid down to the finest, all four fused there.
An auxiliary FCN head learns from the third. Norms are over groups instead of over the batch, see
`convolutions`.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rsvl_jax.errors import UserError
from rsvl_jax.models.convolutions import ConvNorm, classifier, group_norm, resized
from rsvl_jax.models.layers import gelu
from rsvl_jax.models.vit import Vit, VitConfig

LEVELS = 4
SCALES = (1, 2, 3, 6)
AUXILIARY = 256  # the usual width of the auxiliary head
_SEEN = 2  # the level that it sees


@dataclass(frozen=True)
class UpernetConfig:
    """classes · width: of all convolutions · depths: blocks of the ViT after which its states are
    taken · dropout: of whole channels before a classifier · auxiliary: width of the FCN head, 0
    for none."""

    classes: int
    width: int
    depths: tuple[int, ...]
    dropout: float = 0.1
    auxiliary: int = AUXILIARY

    def __post_init__(self) -> None:
        if len(self.depths) != LEVELS:
            raise UserError(f"depths {list(self.depths)} of UPerNet: give {LEVELS}")


def spaced(depth: int) -> tuple[int, ...]:
    """Four depths, evenly: 3, 6, 9, 12 of 12 blocks. Raises UserError for fewer than 4 blocks."""
    if depth < LEVELS:
        raise UserError(f"UPerNet takes {LEVELS} depths of a ViT, and this one has {depth} blocks")
    return tuple(round(depth * level / LEVELS) for level in range(1, LEVELS + 1))


class Rescaling(nnx.Module):
    """States [B, h, w, D] of four depths at 4, 2, 1 and 1/2 times their size, by transposed
    convolutions and a maximum (mmsegmentation's Feature2Pyramid; odd sizes are rounded up)."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.first, self.second, self.twice = (_doubling(width, rngs) for _ in range(3))
        self.norm = group_norm(width, rngs)

    def __call__(self, states: list[jax.Array]) -> list[jax.Array]:
        finest = self.second(gelu(self.norm(self.first(states[0]))))
        coarsest = nnx.max_pool(states[3], (2, 2), (2, 2), "SAME")
        return [finest, self.twice(states[1]), states[2], coarsest]


def _doubling(width: int, rngs: nnx.Rngs) -> nnx.ConvTranspose:
    return nnx.ConvTranspose(width, width, (2, 2), (2, 2), rngs=rngs)


class PyramidPooling(nnx.Module):
    """Means over 1, 2x2, 3x3 and 6x6 parts of a map beside the map itself (arXiv:1612.01105)."""

    def __init__(self, din: int, width: int, rngs: nnx.Rngs):
        self.branches = nnx.List([ConvNorm(din, width, 1, rngs) for _ in SCALES])
        self.fuse = ConvNorm(din + len(SCALES) * width, width, 3, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        size = (x.shape[1], x.shape[2])
        pooled = (pool(x, scale) for scale in SCALES)
        parts = [
            resized(branch(part), size) for branch, part in zip(self.branches, pooled, strict=True)
        ]
        return self.fuse(jnp.concatenate([x, *parts], axis=-1))


def pool(x: jax.Array, parts: int) -> jax.Array:
    """Means over parts x parts regions of [B, H, W, C], as PyTorch's adaptive_avg_pool2d."""
    rows, columns = (_regions(size, parts) for size in x.shape[1:3])
    return jnp.einsum("ih,jw,bhwc->bijc", rows, columns, x, precision="highest")


def _regions(size: int, parts: int) -> np.ndarray:
    """float32 [parts, size]; rows sum to one. Regions overlap where they do not divide."""
    found = np.zeros((parts, size), np.float32)
    for part in range(parts):
        region = slice(part * size // parts, -(-(part + 1) * size // parts))
        found[part, region] = 1
    return found / found.sum(axis=1, keepdims=True)


class Upernet(nnx.Module):
    """The decoder: states of four depths [B, h, w, D] -> logits at four times the grid."""

    def __init__(self, cfg: UpernetConfig, din: int, rngs: nnx.Rngs):
        self.cfg, width = cfg, cfg.width
        self.rescaling = Rescaling(din, rngs)
        self.laterals = nnx.List([ConvNorm(din, width, 1, rngs) for _ in range(LEVELS - 1)])
        self.pooling = PyramidPooling(din, width, rngs)
        self.smooth = nnx.List([ConvNorm(width, width, 3, rngs) for _ in range(LEVELS - 1)])
        self.fuse = ConvNorm(LEVELS * width, width, 3, rngs)
        self.classifier = classifier(width, cfg.classes, rngs)
        self.auxiliary = ConvNorm(din, cfg.auxiliary, 3, rngs) if cfg.auxiliary else None
        self.auxiliary_classifier = (
            classifier(cfg.auxiliary, cfg.classes, rngs) if cfg.auxiliary else None
        )

    def __call__(
        self, states: list[jax.Array], rng: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Logits float32 [B, 4h, 4w, C], and those of the auxiliary head [B, h, w, C] or None.

        rng: key for dropout; the auxiliary head is for training alone, and None without a key.
        """
        keys = (None, None) if rng is None else jax.random.split(rng)
        levels = self.rescaling([state.astype(jnp.float32) for state in states])
        logits = self.classifier(self._dropped(self._fused(levels), keys[0]))
        if rng is None or self.auxiliary is None or self.auxiliary_classifier is None:
            return logits, None
        seen = self._dropped(self.auxiliary(levels[_SEEN]), keys[1])
        return logits, self.auxiliary_classifier(seen)

    def _fused(self, levels: list[jax.Array]) -> jax.Array:
        """All levels at the size of the finest, [B, 4h, 4w, width]."""
        merged = [self.pooling(levels[-1])]
        for lateral, level in zip(self.laterals[::-1], levels[-2::-1], strict=True):
            merged.append(lateral(level) + resized(merged[-1], _size(level)))
        coarsest, *finer = merged
        smooth = [each(level) for each, level in zip(self.smooth, finer[::-1], strict=True)]
        size = _size(levels[0])
        return self.fuse(jnp.concatenate([resized(x, size) for x in (*smooth, coarsest)], axis=-1))

    def _dropped(self, x: jax.Array, rng: jax.Array | None) -> jax.Array:
        """Whole channels at a time, as PyTorch's Dropout2d: neighbours tell of one another."""
        rate = self.cfg.dropout
        if rng is None or not rate:
            return x
        keep = jax.random.bernoulli(rng, 1 - rate, (len(x), 1, 1, x.shape[-1]))
        return jnp.where(keep, x / (1 - rate), 0)


def _size(x: jax.Array) -> tuple[int, int]:
    return x.shape[1], x.shape[2]


class Segmenter(nnx.Module):
    """A ViT and UPerNet on top of it."""

    def __init__(self, vit: VitConfig, cfg: UpernetConfig, rngs: nnx.Rngs):
        self.depths = cfg.depths
        self.encoder = Vit(vit, rngs)
        self.decoder = Upernet(cfg, vit.transformer.width, rngs)

    def __call__(
        self, images: jax.Array, rng: jax.Array | None = None, *, frozen: bool = False
    ) -> tuple[jax.Array, jax.Array | None]:
        """images float [B, H, W, 3], normalised -> logits, see `Upernet`.

        frozen: no gradient reaches the encoder.
        """
        states = self.encoder.hidden_states(images, self.depths)
        return self.decoder(jax.lax.stop_gradient(states) if frozen else states, rng)
