import build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsvl_jax.models import functional, heads, vit
from rsvl_jax.models.fusion import Fusion, FusionConfig
from rsvl_jax.models.location import LocationConfig, LocationEncoder
from rsvl_jax.models.text import TextConfig, TextEncoder
from rsvl_jax.models.transformer import TransformerConfig
from rsvl_jax.models.vit import Vit

BASE = TransformerConfig(**vit.PRESETS["B"])
FUSION = TransformerConfig(width=768, depth=6, heads=12, mlp_dim=3072)
SMALL = vit.preset("Ti/16", 32, depth=2)
POOLER = 768 * 768 + 768  # FLAVA's towers carry one that no loss uses; ours leave it out
TO_FUSION = 2 * POOLER  # counted by FLAVA outside its multimodal encoder
FOURIER = LocationConfig(kind="fourier", dim=4, width=4, frequencies=3)


@pytest.mark.parametrize(
    ("make", "extra", "millions"),
    [
        (lambda r: Vit(vit.preset("B/16"), r), POOLER, 86.39),
        (lambda r: TextEncoder(TextConfig(30522, 512, BASE), r), POOLER, 109.48),
        (lambda r: Fusion(FusionConfig(768, 768, FUSION), r), POOLER - TO_FUSION, 43.12),
        (lambda r: heads.MaskedTokenHead(768, 8192, r), 0, 6.89),
        (lambda r: heads.MaskedTokenHead(768, 30522, r), 0, 24.06),
        (lambda r: heads.MatchingHead(768, r), 0, 0.59),
    ],
)
def test_sizes_are_those_of_flava(make, extra, millions):
    assert round((build.count(make)[0] + extra) / 1e6, 2) == millions


@pytest.mark.parametrize(
    "make",
    [
        lambda r: Vit(SMALL, r),
        lambda r: TextEncoder(TextConfig(50, 8, SMALL.transformer), r),
        lambda r: Fusion(FusionConfig(8, 8, SMALL.transformer), r),
        lambda r: LocationEncoder(FOURIER, r),
    ],
)
def test_axes_name_every_dimension_of_every_array(make):
    shapes = jax.eval_shape(lambda rng: functional.init(make, rng), jax.random.key(0))
    axes = functional.logical_axes(make)
    is_axes = lambda leaf: isinstance(leaf, tuple)  # noqa: E731
    assert jax.tree.structure(axes, is_leaf=is_axes) == jax.tree.structure(shapes)
    for names, shape in zip(jax.tree.leaves(axes, is_axes), jax.tree.leaves(shapes), strict=True):
        assert len(names) == len(shape.shape)


def test_trees_are_plain_and_bind_takes_them_back():
    make = lambda r: LocationEncoder(FOURIER, r)  # noqa: E731
    trees = jax.jit(lambda rng: functional.init(make, rng))(jax.random.key(0))
    for path, leaf in jax.tree_util.tree_flatten_with_path(trees)[0]:
        assert all(isinstance(key.key, str) for key in path)
        assert isinstance(leaf, jax.Array)
    assert set(trees["frozen"]) == set(trees["params"]) == {f"capsule_{i}" for i in range(3)}
    graph = functional.structure(make)
    assert hash(graph) == hash(functional.structure(make))
    changed = jax.tree.map(lambda leaf: leaf + 1, trees["params"])
    module = functional.bind(graph, changed, trees["frozen"])
    np.testing.assert_array_equal(
        module.capsule_1.out.bias[...], trees["params"]["capsule_1"]["out"]["bias"] + 1
    )


def test_initial_values_are_those_of_flava():
    make = lambda r: Vit(SMALL, r)  # noqa: E731
    params = jax.jit(lambda rng: functional.init(make, rng)["params"])(jax.random.key(0))
    for name in ("class_token", "mask_token", "positions"):
        assert not params[name].any()
    layers = params["stack"]["layers"]
    for kernel in (layers["mlp"]["up"]["kernel"], layers["attention"]["qkv"]):
        assert kernel.std() == pytest.approx(0.02, rel=0.02)
        assert abs(kernel[0] - kernel[1]).max() > 0.01  # layers are drawn apart
    assert not layers["attention"]["qkv_bias"].any()
    assert (layers["mlp_norm"]["scale"] == 1).all()
    text = lambda r: TextEncoder(TextConfig(50, 8, SMALL.transformer), r)  # noqa: E731
    words = jax.jit(lambda rng: functional.init(text, rng)["params"]["word_embed"])
    words = words(jax.random.key(0))
    assert not words[0].any()
    assert words[1:].std() == pytest.approx(0.02, rel=0.05)


def test_the_same_key_gives_the_same_values():
    make = lambda r: heads.Projection(8, 8, r)  # noqa: E731
    one, again, other = (
        functional.init(make, jax.random.key(seed))["params"]["kernel"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


def test_gradients_reach_every_parameter():
    bind, params = build.randomised(lambda r: Vit(SMALL, r))
    images = jnp.ones((2, 32, 32, 3))
    mask = np.array([[True, False, False, False]] * 2)
    weights = np.random.default_rng(0).standard_normal((2, 5, 192)).astype(np.float32)

    def loss(params):
        return (bind(params)(images, mask=mask).tokens * weights).sum()

    gradients = jax.jit(jax.grad(loss))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path
