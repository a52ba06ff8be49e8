"""Options of towers that weights from outside need; that they compute what their originals do is
shown beside those, in tests/weights."""

import build
import jax
import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.models import functional
from rsvl_jax.models.positions import sincos_2d
from rsvl_jax.models.text import TextConfig, TextEncoder
from rsvl_jax.models.transformer import LAYER_SCALE, TransformerConfig
from rsvl_jax.models.vit import Vit, VitConfig

STACK = TransformerConfig(width=16, depth=2, heads=2, mlp_dim=24, ln_eps=1e-6)
IMAGES = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)


def vit(transformer=STACK, **options):
    return lambda rngs: Vit(VitConfig(16, 8, transformer, **options), rngs)


def test_registers_are_seen_and_not_returned():
    bind, params = build.randomised(vit(registers=3))
    assert params["registers"].shape == (3, 16)
    run = jax.jit(lambda params: bind(params)(IMAGES).tokens)
    one, other = run(params), run({**params, "registers": 2 * params["registers"]})
    assert one.shape == (2, 5, 16)
    assert np.abs(one - other).max() > 1e-3


def test_a_table_of_positions_is_frozen_and_sincos_at_first():
    trees = functional.init(vit(positions="table"), jax.random.key(0))
    assert "positions" not in trees["params"]
    table = np.asarray(trees["frozen"]["positions"])
    np.testing.assert_array_equal(table[0], 0)
    np.testing.assert_array_equal(table[1:], sincos_2d((2, 2), 16))


def test_a_table_gives_what_sincos_gives_on_its_grid():
    outputs = []
    for positions in ("table", "sincos"):
        bind, params = build.randomised(vit(positions=positions))
        outputs.append(jax.jit(lambda params, bind=bind: bind(params)(IMAGES).tokens)(params))
    np.testing.assert_array_equal(*outputs)


def test_gsd_stretches_sincos_positions():
    table = sincos_2d((3, 3), 16, 2.0)
    np.testing.assert_allclose(table[4], sincos_2d((3, 3), 16)[8], atol=1e-6)
    with pytest.raises(UserError, match="gsd 2.0 is for 'sincos' positions, not 'learned'"):
        VitConfig(16, 8, STACK, gsd=2.0)


def test_layer_scale_starts_near_the_identity():
    transformer = TransformerConfig(16, 2, 2, 24, layer_scale=True)
    params = functional.init(vit(transformer), jax.random.key(0))["params"]["stack"]["layers"]
    for name in ("attention_scale", "mlp_scale"):
        np.testing.assert_allclose(params[name], np.full((2, 16), LAYER_SCALE))


def test_post_norm_text_ends_in_a_norm_and_has_no_other():
    transformer = TransformerConfig(16, 2, 2, 24, norm="post")
    cfg = TextConfig(20, 9, transformer, token_types=1)
    bind, params = build.randomised(lambda rngs: TextEncoder(cfg, rngs))
    assert "norm" not in params
    assert params["type_embed"].shape == (1, 16)
    last = params["stack"]["layers"]["mlp_norm"]
    last["scale"][-1], last["bias"][-1] = 1, 0
    encoded = jax.jit(bind(params))(np.arange(6).reshape(2, 3))
    np.testing.assert_array_equal(encoded.hidden, encoded.tokens)
    np.testing.assert_allclose(encoded.tokens.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(encoded.tokens.std(-1), 1, atol=1e-4)


def test_unknown_norm_is_refused():
    with pytest.raises(UserError, match="unknown norm 'rms'"):
        TransformerConfig(16, 2, 2, 24, norm="rms")
