"""Vision transformer: patches, class token, mask token, positions, blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rsvl_jax.errors import UserError
from rsvl_jax.models.layers import Frozen, Init, LayerNorm, normal, param, zeros
from rsvl_jax.models.positions import resize_table, sincos_2d
from rsvl_jax.models.transformer import Encoded, Stack, TransformerConfig, linear

CHANNELS = 3
POSITIONS = ("learned", "sincos", "table")

# Sizes of the ViT family (arXiv:2010.11929 table 1, arXiv:2106.04560 table 2).
PRESETS: dict[str, dict[str, int]] = {
    "Ti": {"width": 192, "depth": 12, "heads": 3, "mlp_dim": 768},
    "S": {"width": 384, "depth": 12, "heads": 6, "mlp_dim": 1536},
    "B": {"width": 768, "depth": 12, "heads": 12, "mlp_dim": 3072},
    "L": {"width": 1024, "depth": 24, "heads": 16, "mlp_dim": 4096},
    "H": {"width": 1280, "depth": 32, "heads": 16, "mlp_dim": 5120},
    "g": {"width": 1408, "depth": 40, "heads": 16, "mlp_dim": 6144},
}


@dataclass(frozen=True)
class VitConfig:
    """Image size and patch size in pixels (square).

    positions: "learned"; "sincos", fixed, computed for any grid; "table", fixed, an array that a
    checkpoint brings (MAE's), sin-cos at first, interpolated as learned ones are · stem_norm:
    CLIP's, a layer norm before the blocks, and no bias before it in the patch embedding; class
    token and learned positions then start random, as a norm of zeros has no useful gradient ·
    registers: learned tokens that the blocks see and nobody reads (DINOv2's, arXiv:2309.16588) ·
    gsd: how far "sincos" positions are apart, Scale-MAE's ground sample distance relative to its
    reference (arXiv:2212.14532); 1 is MAE.
    """

    image_size: int
    patch_size: int
    transformer: TransformerConfig
    positions: str = "learned"
    class_token: bool = True
    mask_token: bool = True
    stem_norm: bool = False
    registers: int = 0
    gsd: float = 1.0

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise UserError(
                f"image size {self.image_size} is not divisible by patch size {self.patch_size}"
            )
        if self.positions not in POSITIONS:
            raise UserError(f"unknown positions {self.positions!r}: choose one of {POSITIONS}")
        if self.gsd != 1 and self.positions != "sincos":
            raise UserError(f"gsd {self.gsd} is for 'sincos' positions, not {self.positions!r}")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches along each side, (rows, columns)."""
        side = self.image_size // self.patch_size
        return side, side


def preset(name: str, image_size: int = 224, **changes: Any) -> VitConfig:
    """The config of a name such as "B/16"; `changes` go to its TransformerConfig.

    Raises UserError for an unknown size or a malformed name.
    """
    size, _, patch = name.partition("/")
    if size not in PRESETS or not patch.isdigit():
        raise UserError(f"unknown ViT {name!r}: write SIZE/PATCH, SIZE one of {sorted(PRESETS)}")
    return VitConfig(image_size, int(patch), TransformerConfig(**{**PRESETS[size], **changes}))


def patchify(images: jax.Array, patch_size: int) -> jax.Array:
    """[B, H, W, C] -> [B, N, patch*patch*C]: patches row-major, each flattened as (h, w, c)."""
    b, height, width, channels = images.shape
    if height % patch_size or width % patch_size:
        raise UserError(f"image {height}x{width} is not divisible by patch size {patch_size}")
    rows, columns = height // patch_size, width // patch_size
    x = images.reshape(b, rows, patch_size, columns, patch_size, channels)
    return x.swapaxes(2, 3).reshape(b, rows * columns, -1)


class Vit(nnx.Module):
    """FLAVA's image encoder: patchify, mask token, class token, positions, pre-LN blocks, LN."""

    def __init__(self, cfg: VitConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        width, patch_dim = cfg.transformer.width, cfg.patch_size**2 * CHANNELS
        self.patch_embed = linear(cfg.transformer, rngs, patch_dim, width, ("patch", "embed"))
        starts = (normal(width**-0.5), normal()) if cfg.stem_norm else (zeros, zeros)
        self.class_token = param(rngs, starts[0], (width,), (None,)) if cfg.class_token else None
        self.mask_token = param(rngs, zeros, (width,), (None,)) if cfg.mask_token else None
        self.positions = _table(cfg, rngs, starts[1])
        eps = cfg.transformer.ln_eps
        self.stem_norm = LayerNorm(width, rngs, eps=eps) if cfg.stem_norm else None
        if cfg.stem_norm:
            self.patch_embed.bias = None
        shape = (cfg.registers, width)
        self.registers = param(rngs, normal(), shape, (None, "embed")) if cfg.registers else None
        self.stack = Stack(cfg.transformer, rngs)
        self.norm = LayerNorm(width, rngs, eps=eps)

    def __call__(
        self,
        images: jax.Array,
        *,
        mask: jax.Array | None = None,
        keep: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> Encoded:
        """images float [B, H, W, 3], normalised -> hidden and tokens [B, 1+N, D], class first.

        mask bool [B, N]: True patches are replaced by the mask token (FLAVA).
        keep int [B, Nk]: only these patches enter the blocks, in this order (MAE) -> [B, 1+Nk, D].
        rng: key for dropout. Any H, W that the patch divides: positions are interpolated.
        """
        hidden = self.encode(images, mask=mask, keep=keep, rng=rng)
        return Encoded(hidden, self.norm(hidden))

    def encode(
        self,
        images: jax.Array,
        *,
        mask: jax.Array | None = None,
        keep: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> jax.Array:
        """The `hidden` of a call alone, before the final layer norm."""
        x = self.stack(self._embed(images, mask, keep), rng=rng)
        if self.registers is None:
            return x
        start = int(self.cfg.class_token)
        return jnp.concatenate([x[:, :start], x[:, start + self.cfg.registers :]], axis=1)

    def hidden_states(self, images: jax.Array, depths: Sequence[int]) -> list[jax.Array]:
        """Patches after the first so many blocks, [B, h, w, D] for each of `depths`, which rise.

        images as in a call; no norm is applied. Raises UserError for depths that do not rise from 1
        to the number of blocks.
        """
        known = range(1, self.cfg.transformer.depth + 1)
        if sorted(set(depths)) != list(depths) or not set(depths) <= set(known):
            raise UserError(f"depths {list(depths)} must rise, and lie in 1 to {known[-1]}")
        grid = (images.shape[1] // self.cfg.patch_size, images.shape[2] // self.cfg.patch_size)
        first = int(self.cfg.class_token) + self.cfg.registers
        states = self.stack.after(self._embed(images), depths)
        return [state[:, first:].reshape(len(images), *grid, -1) for state in states]

    def _embed(
        self, images: jax.Array, mask: jax.Array | None = None, keep: jax.Array | None = None
    ) -> jax.Array:
        """What enters the blocks: class token, registers, patches."""
        grid = (images.shape[1] // self.cfg.patch_size, images.shape[2] // self.cfg.patch_size)
        class_position, position = self._positions(grid)
        patches = patchify(images, self.cfg.patch_size)
        if keep is not None:
            # Gathered before the projection, which then runs on the visible patches alone.
            patches = jnp.take_along_axis(patches, keep[..., None], axis=1)
            position = position[keep]
        x = self.patch_embed(patches)
        if mask is not None:
            if self.mask_token is None:
                raise UserError("a mask was given to a ViT built with mask_token=False")
            x = jnp.where(mask[..., None], self.mask_token.astype(x.dtype), x)
        x = x + position.astype(x.dtype)
        if self.registers is not None:
            x = jnp.concatenate([_repeated(self.registers[...], x), x], axis=1)
        if self.class_token is not None:
            first = self.class_token[...] + class_position
            x = jnp.concatenate([_repeated(first[None], x), x], axis=1)
        if self.stem_norm is not None:
            return self.stem_norm(x)
        return x

    def _positions(self, grid: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        """Position of the class token [D] (zeros without one) and of the patches [N, D]."""
        if self.positions is None:
            width = self.cfg.transformer.width
            return jnp.zeros(width), jnp.asarray(sincos_2d(grid, width, self.cfg.gsd))
        table = self.positions[...]
        first = int(self.cfg.class_token)
        return table[0] * first, resize_table(table[first:], self.cfg.grid, grid)


def _table(cfg: VitConfig, rngs: nnx.Rngs, init: Init) -> nnx.Param | Frozen | None:
    """The positions that are an array, [1+N, D] with those of the class token."""
    width, axes = cfg.transformer.width, ("positions", "embed")
    if cfg.positions == "learned":
        return param(rngs, init, (cfg.grid[0] * cfg.grid[1] + cfg.class_token, width), axes)
    if cfg.positions == "table":
        table = np.pad(sincos_2d(cfg.grid, width), ((int(cfg.class_token), 0), (0, 0)))
        return Frozen(jnp.asarray(table), axes=axes)
    return None


def _repeated(tokens: jax.Array, x: jax.Array) -> jax.Array:
    """Tokens [R, D] for each row of x [B, N, D], in its dtype: [B, R, D]."""
    return jnp.broadcast_to(tokens.astype(x.dtype), (x.shape[0], *tokens.shape))
