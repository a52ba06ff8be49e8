import build
import jax
import numpy as np
import pytest
import reference

from rsvl_jax.errors import UserError
from rsvl_jax.models import attention, layers
from rsvl_jax.models.fusion import Fusion, FusionConfig
from rsvl_jax.models.text import TextConfig, TextEncoder
from rsvl_jax.models.transformer import TransformerConfig

STACK = TransformerConfig(width=16, depth=1, heads=2, mlp_dim=24, ln_eps=1e-6)
LENGTHS = np.array([7, 2, 4])
MASK = np.arange(7) < LENGTHS[:, None]
IDS = np.where(MASK, np.random.default_rng(0).integers(1, 20, MASK.shape), 0)
IMAGE = np.random.default_rng(1).standard_normal((3, 5, 12)).astype(np.float32)
TEXT = np.random.default_rng(2).standard_normal((3, 7, 10)).astype(np.float32)


def text():
    return build.randomised(lambda r: TextEncoder(TextConfig(20, 9, STACK), r))


def fusion(**changes):
    return build.randomised(lambda r: Fusion(FusionConfig(12, 10, STACK, **changes), r))


def layer(params):
    return jax.tree.map(lambda leaf: leaf[0].astype(np.float64), params["stack"]["layers"])


def test_text_is_berts_embedding_then_pre_ln_blocks():
    bind, params = text()
    x = params["word_embed"][IDS] + params["position_embed"][:7] + params["type_embed"][0]
    x = reference.layer_norm(x.astype(np.float64), **params["embed_norm"], eps=1e-6)
    hidden = reference.block(x, layer(params), MASK, 1e-6)
    encoded = jax.jit(bind(params))(IDS, MASK)
    build.close(encoded.hidden, hidden, 3e-6)
    build.close(encoded.tokens, reference.layer_norm(hidden, **params["norm"], eps=1e-6), 3e-6)


def test_text_padding_changes_nothing():
    bind, params = text()
    run = jax.jit(lambda ids, mask: bind(params)(ids, mask).tokens)
    one, two = (np.asarray(run(ids, MASK)) for ids in (IDS, np.where(MASK, IDS, 13)))
    np.testing.assert_array_equal(one[MASK], two[MASK])
    trimmed = np.asarray(run(IDS[1:, :4], MASK[1:, :4]))
    np.testing.assert_allclose(trimmed[MASK[1:, :4]], one[1:][MASK[1:]], atol=1e-5)


def test_text_longer_than_its_positions_is_refused():
    bind, params = text()
    with pytest.raises(UserError, match="text of 10 tokens, but positions end at 9"):
        bind(params)(np.zeros((1, 10), int))


def test_fusion_is_class_image_text_without_positions():
    bind, params = fusion()
    image = IMAGE.astype(np.float64) @ params["image_projection"]["kernel"]
    words = TEXT.astype(np.float64) @ params["text_projection"]["kernel"]
    first = np.broadcast_to(params["class_token"], (3, 1, 16))
    x = [first, image + params["image_projection"]["bias"]]
    x = np.concatenate([*x, words + params["text_projection"]["bias"]], axis=1)
    mask = np.concatenate([np.ones((3, 6), bool), MASK], axis=1)
    hidden = reference.block(x, layer(params), mask, 1e-6)
    encoded = jax.jit(bind(params))(IMAGE, TEXT, MASK)
    build.close(encoded.hidden, hidden, 3e-6)
    build.close(encoded.tokens, reference.layer_norm(hidden, **params["norm"], eps=1e-6), 3e-6)


@pytest.mark.parametrize("masks", [True, False])
def test_fusion_hides_text_padding_unless_told_not_to(masks):
    bind, params = fusion(mask_text_pads=masks)
    run = jax.jit(lambda text: bind(params)(IMAGE, text, MASK).tokens)
    one, two = (np.asarray(run(text)) for text in (TEXT, np.where(MASK[..., None], TEXT, 3.0)))
    seen = np.concatenate([np.ones((3, 6), bool), MASK], axis=1)
    assert (np.abs(one - two)[seen].max() == 0) == masks


def test_one_visible_key_takes_all_the_weight():
    """The attention rows [1, 0] of torchmultimodal's test_text_encoder.py."""
    q, k, v = np.random.default_rng(0).standard_normal((3, 1, 2, 1, 4)).astype(np.float32)
    for name in ("dot", "xla"):
        out = attention.attend(q, k, v, np.array([[True, False]]), name)
        np.testing.assert_allclose(out, v[:, [0, 0]], atol=1e-6)


def test_layer_norm_has_the_golden_values_of_torchmultimodal():
    """test_image_encoder.py: hidden_states[1] to last hidden, whose eps is 1e-5."""
    bind, _ = build.randomised(lambda r: layers.LayerNorm(2, r, eps=1e-5))
    module = bind({"scale": np.ones(2, np.float32), "bias": np.zeros(2, np.float32)})
    norm = module(np.array([[0.0232, 0.0581]], np.float32))
    np.testing.assert_allclose(norm, [[-0.9840, 0.9840]], atol=2e-4)
