"""Analytic cost of one FLAVARS sample: the matrix products of forward and backward.

A product of [m, k] with [k, n] counts 2mkn. Left out, as smaller than one part in a hundred or not
trained: norms and other elementwise work, the batch-by-batch logits of the contrasts, the frozen
image tokenizer; and recomputation under remat, which is not useful work.
"""

from flavars_jax.settings import Settings
from rsvl_jax.models.location import LocationConfig
from rsvl_jax.models.transformer import TransformerConfig

BACKWARD = 2  # a product has two gradients, each as dear as itself


def per_sample(s: Settings) -> float:
    """FLOPs of forward and backward for an average row of the global batch."""
    costs = {"paired": _pair(s), "image": _mim(s), "text": _mlm(s)}
    forward = sum(share * costs[stream] for stream, share in s.streams.items())
    return (1 + BACKWARD) * forward


def _pair(s: Settings) -> float:
    masked_image = s.fuses_masked or ("mim" in s.on and not s.streams.get("image"))
    masked_text = s.fuses_masked or ("mlm" in s.on and not s.streams.get("text"))
    cost = s.sees_clean_images * _image(s, s.patches) + s.sees_clean_texts * _text(s)
    cost += masked_image * _masked_image(s) + masked_text * _text(s)
    cost += ("mim" in s.on and not s.streams.get("image")) * _mim_head(s)
    cost += ("mlm" in s.on and not s.streams.get("text")) * _words(s, s.text.transformer.width)
    return cost + s.fuses_masked * _fusion(s) + _fused_heads(s) + _contrasts(s)


def _mim(s: Settings) -> float:
    return _masked_image(s) + _mim_head(s)


def _mlm(s: Settings) -> float:
    return _text(s) + _words(s, s.text.transformer.width)


def _stack(cfg: TransformerConfig, length: int) -> float:
    """Blocks over `length` tokens: four square matrices, the MLP, and attention's two products."""
    matrices = 4 * cfg.width**2 + 2 * cfg.width * cfg.mlp_dim
    return cfg.depth * (2 * length * matrices + 4 * length**2 * cfg.width)


def _image(s: Settings, patches: int) -> float:
    width = s.image.transformer.width
    return 2 * patches * s.decoder.patch_dim * width + _stack(s.image.transformer, 1 + patches)


def _masked_image(s: Settings) -> float:
    return _image(s, s.patches - s.masked_patches if s.mae else s.patches)


def _text(s: Settings) -> float:
    return _stack(s.text.transformer, s.text.max_length)


def _fusion(s: Settings) -> float:
    cfg, length = s.fusion, s.text.max_length
    inputs = (1 + s.patches) * cfg.image_width + length * cfg.text_width
    return 2 * inputs * cfg.transformer.width + _stack(cfg.transformer, 2 + s.patches + length)


def _head(count: int, width: int, out: int) -> float:
    return 2 * count * (width**2 + width * out)


def _words(s: Settings, width: int) -> float:
    return _head(s.masked_words, width, s.text.vocab_size)


def _mim_head(s: Settings) -> float:
    if not s.mae:
        return _head(s.masked_patches, s.image.transformer.width, s.codebook_size)
    cfg, visible = s.decoder, s.patches - s.masked_patches
    width = cfg.transformer.width
    ends = (1 + visible) * cfg.encoder_width + s.patches * cfg.patch_dim
    return 2 * ends * width + _stack(cfg.transformer, 1 + s.patches)


def _fused_heads(s: Settings) -> float:
    width = s.fusion.transformer.width
    codes = s.decoder.patch_dim if s.mae else s.codebook_size
    cost = ("mmm_image" in s.on) * _head(s.masked_patches, width, codes)
    cost += ("mmm_text" in s.on) * _words(s, width)
    pairs = 2 if s.hard_itm else 1  # as many negatives as pairs, in a fusion pass of their own
    cost += s.hard_itm * pairs * _fusion(s)
    return cost + ("itm" in s.on) * pairs * _head(1, width, 2)


def _contrasts(s: Settings) -> float:
    image, text = s.image.transformer.width, s.text.transformer.width
    cost = ("image_text" in s.on) * 2 * (image + text) * s.embed_dim
    cost += ("image_location" in s.on) * 2 * image * s.location.dim
    cost += ("text_location" in s.on) * 2 * text * s.location.dim
    regions = ("phrase_region" in s.on) * s.regions * _region(s)
    return cost + regions + bool(s.on & {"image_location", "text_location"}) * _location(s.location)


def _region(s: Settings) -> float:
    """A phrase through the text tower, a mean of patches, both projected."""
    image, text = s.image.transformer.width, s.text.transformer.width
    return (
        _stack(s.text.transformer, s.phrase_length)
        + 2 * s.patches * image
        + 2 * (image + text) * s.embed_dim
    )


def _location(cfg: LocationConfig) -> float:
    harmonics = cfg.kind == "spherical_harmonics"
    inputs = cfg.degree**2 if harmonics else 2 * cfg.frequencies
    layers = inputs * cfg.width + (cfg.depth - 1) * cfg.width**2 + cfg.width * cfg.dim
    return 2 * layers * (1 if harmonics else len(cfg.sigmas))
