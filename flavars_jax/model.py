"""The network of FLAVARS: every part once, and only the parts that the chosen terms train."""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from flavars_jax.settings import Settings
from rsvl_jax.models.dvae import DalleEncoder
from rsvl_jax.models.fusion import Fusion
from rsvl_jax.models.heads import (
    ContrastScale,
    MaeDecoder,
    MaskedTokenHead,
    MatchingHead,
    PixelHead,
    Projection,
)
from rsvl_jax.models.image_tokenizer import PatchCodebook, unit_range
from rsvl_jax.models.layers import normal, param
from rsvl_jax.models.location import LocationEncoder
from rsvl_jax.models.positions import sincos_2d
from rsvl_jax.models.text import TextEncoder
from rsvl_jax.models.transformer import Encoded
from rsvl_jax.models.vit import Vit

DALLE_STRIDE = 8  # pixels to a visual word
SIGMOID_BIAS = -10.0  # SigLIP's start: nearly all pairs are negatives

Sample = dict[str, jax.Array]
Part = Callable[[str, object, Callable[[nnx.Rngs], Any]], Any]


class Views(NamedTuple):
    """The whole input and the masked one, each `Encoded`, or None where it was not asked for."""

    clean: Any
    masked: Any


class FlavarsModel(nnx.Module):
    """Image, text and location encoders, fusion, and the heads of the terms in `settings`.

    A part that no term trains is None. Each part draws its initial values from a key of its own
    name, so that one seed gives the same encoder under every objective.
    """

    def __init__(self, settings: Settings, rngs: nnx.Rngs):
        self.settings = settings
        seed = rngs.params()

        def part(name: str, wanted: object, make: Callable[[nnx.Rngs], Any]) -> Any:
            key = jax.random.fold_in(seed, zlib.crc32(name.encode()))
            return make(nnx.Rngs(key)) if wanted else None

        self._add_towers(settings, part)
        self._add_masked_heads(settings, part)
        self._add_contrasts(settings, part)

    def _add_towers(self, s: Settings, part: Part) -> None:
        masks = "mim" in s.on or s.fuses_masked
        self.image = part("image", masks or s.sees_clean_images, lambda r: Vit(s.image, r))
        if self.image is not None and (s.mae or not masks):
            # Taken away after the draws: they must not depend on whether it is there.
            self.image.mask_token = None
        reads = "mlm" in s.on or s.fuses_masked or s.sees_clean_texts
        self.text = part("text", reads, lambda r: TextEncoder(s.text, r))
        fuses = s.fuses_masked or s.hard_itm
        self.fusion = part("fusion", fuses, lambda r: Fusion(s.fusion, r))
        places = s.on & {"image_location", "text_location"}
        self.location = part("location", places, lambda r: LocationEncoder(s.location, r))

    def _add_masked_heads(self, s: Settings, part: Part) -> None:
        on, fused = s.on, s.fusion.transformer.width
        dtype = s.fusion.transformer.dtype
        options: dict[str, Any] = {"activation": s.fusion.transformer.activation, "dtype": dtype}

        def words(width: int, vocab: int) -> Callable[[nnx.Rngs], MaskedTokenHead]:
            return lambda r: MaskedTokenHead(width, vocab, r, **options)

        def pixels(r: nnx.Rngs) -> PixelHead:
            return PixelHead(fused, s.decoder.patch_dim, r, **options)

        vocab = s.text.vocab_size
        self.mlm_head = part("mlm_head", "mlm" in on, words(s.text.transformer.width, vocab))
        self.mmm_text_head = part("mmm_text_head", "mmm_text" in on, words(fused, vocab))
        mmm_image = pixels if s.mae else words(fused, s.codebook_size)
        self.mmm_image_head = part("mmm_image_head", "mmm_image" in on, mmm_image)
        self.itm_head = part("itm_head", "itm" in on, lambda r: MatchingHead(fused, r, dtype=dtype))
        mim, image_width = "mim" in on, s.image.transformer.width
        self.mim_head = part("mim_head", mim and not s.mae, words(image_width, s.codebook_size))
        self.decoder = part("decoder", mim and s.mae, lambda r: MaeDecoder(s.decoder, r))
        self.patch_mask = part("patch_mask", s.mae and s.fuses_masked, lambda r: PatchMask(s, r))
        self.tokenizer = part("tokenizer", s.predicts_codes, lambda r: _tokenizer(s, r))

    def _add_contrasts(self, s: Settings, part: Part) -> None:
        def head(name: str, dim: int, *towers: str) -> Any:
            return part(name, name in s.on, lambda r: ContrastHead(s, dim, towers, r))

        self.image_text = head("image_text", s.embed_dim, "image", "text")
        self.image_location = head("image_location", s.location.dim, "image")
        self.text_location = head("text_location", s.location.dim, "text")
        self.phrase_region = head("phrase_region", s.embed_dim)  # projects as image_text does

    def normalize(self, images: jax.Array) -> jax.Array:
        """Pixels uint8 (or float in [0, 1]) [B, H, W, 3] -> float32 less the mean, over the std."""
        mean, std = jnp.asarray(self.settings.mean), jnp.asarray(self.settings.std)
        return (unit_range(images) - mean) / std

    def pool(self, tokens: jax.Array) -> jax.Array:
        """tokens [B, 1+N, D] of an image -> what stands for it in the contrasts, [B, D].

        The class token (FLAVA), or the mean of the patches, which then learn from them too.
        """
        if self.settings.image_pooling == "cls":
            return tokens[:, 0]
        return tokens[:, 1:].mean(axis=1, dtype=jnp.float32)

    def encode_images(
        self, sample: Sample, *, clean: bool, masked: bool, rng: jax.Array | None = None
    ) -> Views:
        """Encodes sample["image"]: whole, masked by "mim_mask" (or reduced to "mae_keep"), or both.

        Both at once is one pass of 2B images where the masked view has the same length.
        """
        if not (clean or masked):
            return Views(None, None)
        images = self.normalize(sample["image"])
        if self.settings.mae:
            return Views(
                self.image(images, rng=named_key(rng, "clean")) if clean else None,
                self.image(images, keep=sample["mae_keep"], rng=rng) if masked else None,
            )
        if not masked:
            return Views(self.image(images, rng=rng), None)
        mask = sample["mim_mask"]
        masks = [jnp.zeros_like(mask)] * clean + [mask]
        encoded = self.image(interleave([images] * len(masks)), mask=interleave(masks), rng=rng)
        return _views(encoded, clean, masked)

    def encode_texts(
        self, sample: Sample, *, clean: bool, masked: bool, rng: jax.Array | None = None
    ) -> Views:
        """Encodes sample["text"], sample["text_masked"], or both in one pass of 2B texts."""
        wanted = ["text"] * clean + ["text_masked"] * masked
        if not wanted:
            return Views(None, None)
        ids = [sample[name] for name in wanted]  # what no term masks, the batch does not have
        mask = interleave([sample["text_mask"]] * len(ids))
        return _views(self.text(interleave(ids), mask, rng=rng), clean, masked)

    def fuse_masked(
        self, image: Encoded, text: Encoded, sample: Sample, rng: jax.Array | None = None
    ) -> jax.Array:
        """Masked image and masked text -> fused tokens after the final LN, [B, 1 + (1+N) + T, D].

        Under the MAE design the hidden patches come back as mask tokens with their positions.
        """
        hidden = image.hidden
        if self.settings.mae:
            hidden = self.patch_mask(hidden, sample["mae_keep"])
        return self.fusion(hidden, text.hidden, sample["text_mask"], rng=rng).tokens


class ContrastHead(nnx.Module):
    """Projections of the class tokens of `towers` into one space, and its logit scale (and bias).

    A location encoder already ends in the space: it has no projection. Without towers: a scale.
    """

    def __init__(self, s: Settings, dim: int, towers: tuple[str, ...], rngs: nnx.Rngs):
        def project(name: str, width: int) -> Any:
            # In float32 whatever the towers compute in: a scale of 100 would show the rounding.
            return Projection(width, dim, rngs) if name in towers else None

        self.image = project("image", s.image.transformer.width)
        self.text = project("text", s.text.transformer.width)
        self.scale = ContrastScale(s.logit_scale_init)
        start = jnp.asarray(SIGMOID_BIAS, jnp.float32)
        self.bias = nnx.Param(start, axes=()) if s.contrast == "sigmoid" else None


class PatchMask(nnx.Module):
    """Puts a mask token, plus its sin-cos position, where a patch was left out of the encoder.

    The fusion encoder has no positions of its own, unlike that of the open_clip FLAVA fork whose
    design this is (gmittal/open_clip flava-dev): without them all hidden patches would look alike.
    """

    def __init__(self, s: Settings, rngs: nnx.Rngs):
        self.grid = s.image.grid
        self.token = param(rngs, normal(), (s.image.transformer.width,), (None,))

    def __call__(self, hidden: jax.Array, keep: jax.Array) -> jax.Array:
        """hidden [B, 1+Nk, D] of the visible patches keep int [B, Nk] -> [B, 1+N, D]."""
        rows = jnp.arange(hidden.shape[0])[:, None]
        table = jnp.asarray(sincos_2d(self.grid, hidden.shape[-1]))
        hiding = (self.token[...] + table).astype(hidden.dtype)
        hiding = jnp.broadcast_to(hiding, (hidden.shape[0], *hiding.shape))
        patches = hiding.at[rows, keep].set(hidden[:, 1:])
        return jnp.concatenate([hidden[:, :1], patches], axis=1)


def interleave(views: list[jax.Array]) -> jax.Array:
    """n arrays [B, ...] -> [n*B, ...], the views of a row beside each other.

    So every row stays on the device that holds it; concatenation would move half of the batch.
    """
    return jnp.stack(views, axis=1).reshape(-1, *views[0].shape[1:])


def separate(x: jax.Array, views: int) -> Iterator[jax.Array]:
    """Inverse of `interleave`."""
    rows = x.reshape(-1, views, *x.shape[1:])
    return (rows[:, view] for view in range(views))


def named_key(rng: jax.Array | None, name: str) -> jax.Array | None:
    """A key for one purpose; None without a key (no dropout)."""
    return None if rng is None else jax.random.fold_in(rng, zlib.crc32(name.encode()))


def _views(encoded: Encoded, clean: bool, masked: bool) -> Views:
    parts = [separate(x, clean + masked) for x in encoded]
    views = (Encoded(hidden, tokens) for hidden, tokens in zip(*parts, strict=True))
    return Views(next(views) if clean else None, next(views) if masked else None)


def _tokenizer(s: Settings, rngs: nnx.Rngs) -> PatchCodebook | DalleEncoder:
    if s.image_tokenizer == "dalle":
        return DalleEncoder(DALLE_STRIDE * s.image.grid[0], rngs)
    return PatchCodebook(s.codebook_size, s.image.patch_size)
