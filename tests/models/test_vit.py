import build
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from rsvl_jax.errors import UserError
from rsvl_jax.models import positions, vit
from rsvl_jax.models.transformer import TransformerConfig
from rsvl_jax.models.vit import Vit, VitConfig

IMAGES = np.random.default_rng(0).standard_normal((3, 12, 12, 3)).astype(np.float32)
N = 9


def config(**changes):
    stack = TransformerConfig(width=16, depth=1, heads=2, mlp_dim=24, ln_eps=1e-6)
    return VitConfig(**{"image_size": 12, "patch_size": 4, "transformer": stack, **changes})


def model(**changes):
    return build.randomised(lambda r: Vit(config(**changes), r))


def test_patch_embedding_is_a_convolution():
    bind, params = model()
    kernel = params["patch_embed"]["kernel"].reshape(4, 4, 3, 16)
    expected = jax.lax.conv_general_dilated(
        IMAGES, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    embedded = bind(params).patch_embed(vit.patchify(IMAGES, 4))
    expected = expected.reshape(3, N, 16) + params["patch_embed"]["bias"]
    np.testing.assert_allclose(embedded, expected, atol=1e-5)


def test_tokens_in_the_order_of_flava():
    """Patches, mask token, class token first, positions on all; LN after the blocks."""
    bind, params = model()
    mask = np.arange(N) % 2 == np.array([[0], [1], [2]])
    encoded = jax.jit(bind(params))(IMAGES, mask=mask)
    x = np.asarray(bind(params).patch_embed(vit.patchify(IMAGES, 4)), np.float64)
    x = np.where(mask[..., None], params["mask_token"], x)
    first = np.broadcast_to(params["class_token"], (3, 1, 16))
    x = np.concatenate([first, x], axis=1) + params["positions"]
    layer = jax.tree.map(lambda leaf: leaf[0].astype(np.float64), params["stack"]["layers"])
    hidden = reference.block(x, layer, np.ones((3, 1 + N), bool), 1e-6)
    build.close(encoded.hidden, hidden, 3e-6)
    build.close(encoded.tokens, reference.layer_norm(hidden, **params["norm"], eps=1e-6), 3e-6)


def test_masked_patches_are_not_seen():
    bind, params = model()
    mask = np.arange(N)[None] < np.array([[2], [5], [9]])
    pixels = np.repeat(np.repeat(mask.reshape(3, 3, 3), 4, 1), 4, 2)[..., None]
    run = jax.jit(lambda images: bind(params)(images, mask=mask).tokens)
    np.testing.assert_array_equal(run(IMAGES), run(np.where(pixels, 5.0, IMAGES)))


def test_keeping_all_patches_is_the_full_pass_and_order_follows_keep():
    bind, params = model()
    full = jax.jit(bind(params))(IMAGES).tokens
    keep = np.stack([np.random.default_rng(row).permutation(N) for row in range(3)])
    kept = jax.jit(bind(params))(IMAGES, keep=keep).tokens
    np.testing.assert_allclose(kept[:, 0], full[:, 0], atol=1e-5)
    expected = np.take_along_axis(np.asarray(full[:, 1:]), keep[..., None], axis=1)
    np.testing.assert_allclose(kept[:, 1:], expected, atol=1e-5)


def test_patches_left_out_never_enter_the_blocks():
    bind, params = model(positions="sincos", mask_token=False)
    keep = np.array([[0, 4], [8, 1], [3, 2]])
    pixels = np.ones((3, N), bool)
    np.put_along_axis(pixels, keep, False, axis=1)
    pixels = np.repeat(np.repeat(pixels.reshape(3, 3, 3), 4, 1), 4, 2)[..., None]
    run = jax.jit(lambda images: bind(params)(images, keep=keep).tokens)
    assert run(IMAGES).shape == (3, 3, 16)
    np.testing.assert_array_equal(run(IMAGES), run(np.where(pixels, 5.0, IMAGES)))


def test_without_a_class_token():
    bind, params = model(class_token=False)
    assert params["positions"].shape == (N, 16)
    assert jax.eval_shape(bind(params), IMAGES).tokens.shape == (3, N, 16)


@pytest.mark.parametrize("new", [(7, 7), (2, 3), (8, 5), (20, 4)])
def test_positions_are_interpolated_as_opencv_does(new):
    table = np.random.default_rng(0).standard_normal((6 * 4, 3)).astype(np.float32)
    expected = cv2.resize(table.reshape(6, 4, 3), new[::-1], interpolation=cv2.INTER_CUBIC)
    resized = positions.resize_table(jnp.asarray(table), (6, 4), new)
    # OpenCV rounds its interpolation coefficients.
    np.testing.assert_allclose(resized, expected.reshape(-1, 3), atol=2e-3)


def test_interpolation_keeps_constants_and_the_class_token():
    bind, params = model()
    flat = {**params, "positions": np.full_like(params["positions"], 0.5)}
    class_position, table = bind(flat)._positions((5, 2))
    np.testing.assert_allclose(table, np.full((10, 16), 0.5), atol=1e-6)
    class_position, same = bind(params)._positions((3, 3))
    np.testing.assert_array_equal(class_position, params["positions"][0])
    np.testing.assert_array_equal(same, params["positions"][1:])
    class_position, _ = bind(params)._positions((6, 6))
    np.testing.assert_array_equal(class_position, params["positions"][0])
    larger = np.zeros((1, 24, 8, 3), np.float32)
    assert jax.eval_shape(bind(params), larger).tokens.shape == (1, 1 + 12, 16)


def test_sincos_table():
    table = positions.sincos_2d((2, 3), 8)
    row, column = 1, 2
    angles = np.array([1.0, 0.01])
    expected = [np.sin(column * angles), np.cos(column * angles)]
    expected += [np.sin(row * angles), np.cos(row * angles)]
    np.testing.assert_allclose(table[row * 3 + column], np.concatenate(expected), atol=1e-6)


def test_presets():
    assert vit.preset("B/16").grid == (14, 14)
    assert vit.preset("g/14", 224).transformer.mlp_dim == 6144
    assert vit.preset("Ti/8", 64, remat="full").transformer.remat == "full"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config(image_size=13), "13 is not divisible by patch size 4"),
        (lambda: config(positions="rotary"), "rotary"),
        (lambda: vit.preset("XL/16"), "XL/16"),
        (lambda: vit.preset("B"), "'B'"),
        (lambda: vit.patchify(np.zeros((1, 8, 9, 3)), 4), "8x9"),
        (lambda: positions.sincos_2d((2, 2), 6), "width 6"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_mask_needs_a_mask_token():
    bind, params = model(mask_token=False)
    with pytest.raises(UserError, match="mask_token"):
        bind(params)(IMAGES, mask=np.ones((3, N), bool))


@pytest.mark.parametrize("changes", [{}, {"registers": 2}, {"class_token": False}])
def test_hidden_states_are_those_of_the_blocks_one_by_one(changes):
    stack = TransformerConfig(width=16, depth=4, heads=2, mlp_dim=24, ln_eps=1e-6)
    bind, params = model(transformer=stack, mask_token=False, **changes)
    found = bind(params).hidden_states(IMAGES, (1, 3, 4))
    first = int(changes.get("class_token", True)) + changes.get("registers", 0)
    x = bind(params)._embed(IMAGES)
    layers = bind(params).stack.layers
    for depth in range(4):
        x = jax.tree.map(lambda leaf, depth=depth: leaf[depth], layers)(x, None, None)
        if depth + 1 in (1, 3, 4):
            state = found.pop(0)
            assert state.shape == (3, 3, 3, 16)
            np.testing.assert_allclose(state.reshape(3, N, 16), x[:, first:], atol=1e-5)
    last = bind(params).hidden_states(IMAGES, (4,))[0].reshape(3, N, 16)
    whole = bind(params).encode(IMAGES)[:, int(changes.get("class_token", True)) :]
    np.testing.assert_array_equal(last, whole)
    with pytest.raises(UserError, match=r"depths \[2, 5\] must rise, and lie in 1 to 4"):
        bind(params).hidden_states(IMAGES, (2, 5))
