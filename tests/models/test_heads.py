import math

import build
import jax
import numpy as np
import reference

from rsvl_jax.models import heads
from rsvl_jax.models.positions import sincos_2d
from rsvl_jax.models.transformer import TransformerConfig

TOKENS = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)


def linear(x, p):
    return x @ p["kernel"] + p["bias"]


def test_masked_token_head():
    bind, p = build.randomised(lambda r: heads.MaskedTokenHead(8, 11, r))
    x = reference.gelu(linear(TOKENS.astype(np.float64), p["dense"]))
    expected = linear(reference.layer_norm(x, **p["norm"], eps=1e-12), p["decoder"])
    build.close(bind(p)(TOKENS), expected, 3e-6)


def test_matching_head():
    bind, p = build.randomised(lambda r: heads.MatchingHead(8, r))
    expected = linear(
        np.tanh(linear(TOKENS[:, 0].astype(np.float64), p["pooler"])), p["classifier"]
    )
    build.close(bind(p)(TOKENS[:, 0]), expected, 3e-6)


def test_pixel_head_and_projection():
    bind, p = build.randomised(lambda r: heads.PixelHead(8, 12, r))
    expected = linear(reference.gelu(linear(TOKENS.astype(np.float64), p["dense"])), p["out"])
    build.close(bind(p)(TOKENS), expected, 3e-6)
    bind, p = build.randomised(lambda r: heads.Projection(8, 5, r, bias=False))
    assert set(p) == {"kernel"}
    build.close(bind(p)(TOKENS), TOKENS @ p["kernel"], 3e-6)


def test_mae_decoder_puts_tokens_back_and_predicts_every_patch():
    stack = TransformerConfig(width=8, depth=1, heads=2, mlp_dim=16, ln_eps=1e-6)
    cfg = heads.MaeDecoderConfig(8, (2, 2), 12, stack)
    bind, p = build.randomised(lambda r: heads.MaeDecoder(cfg, r))
    keep = np.array([[3, 0], [1, 2]])
    x = linear(TOKENS.astype(np.float64), p["embed"])
    full = np.tile(p["mask_token"].astype(np.float64), (2, 4, 1))
    for row in range(2):
        full[row, keep[row]] = x[row, 1:]
    full = np.concatenate([x[:, :1], full + sincos_2d((2, 2), 8)], axis=1)
    layer = jax.tree.map(lambda leaf: leaf[0].astype(np.float64), p["stack"]["layers"])
    full = reference.block(full, layer, np.ones((2, 5), bool), 1e-6)
    expected = linear(reference.layer_norm(full, **p["norm"], eps=1e-6), p["out"])[:, 1:]
    build.close(jax.jit(bind(p))(TOKENS, keep), expected, 5e-6)


def test_contrast_scale_starts_at_clips_temperature():
    bind, _ = build.randomised(lambda r: heads.ContrastScale())
    assert heads.ContrastScale()() == np.float32(math.log(1 / 0.07))
    assert bind({"value": np.float32(2.0)})() == 2
