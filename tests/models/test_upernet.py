"""UPerNet: its shapes, its pooling and its feature pyramid against plain definitions."""

import build
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.models import convolutions, upernet
from rsvl_jax.models.transformer import TransformerConfig
from rsvl_jax.models.upernet import Segmenter, Upernet, UpernetConfig
from rsvl_jax.models.vit import VitConfig

CFG = UpernetConfig(classes=3, width=8, depths=(1, 2, 3, 4), auxiliary=4)


def states(size=(6, 5), dims=12):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(2, *size, dims)), jnp.float32) for _ in range(4)]


def test_pooling_is_adaptive():
    x = states((7, 5), 2)[0]
    for parts in (1, 2, 3, 6):
        found = upernet.pool(x, parts)
        for i, j in np.ndindex(parts, parts):
            rows, columns = (
                slice(int(np.floor(k * n / parts)), int(np.ceil((k + 1) * n / parts)))
                for k, n in ((i, 7), (j, 5))
            )
            expected = x[:, rows, columns].mean(axis=(1, 2))
            np.testing.assert_allclose(found[:, i, j], expected, atol=1e-6)


def test_group_norm_is_that_of_one_image():
    bind, params = build.randomised(lambda rngs: convolutions.group_norm(8, rngs))
    x = np.asarray(states((3, 4), 8)[0], np.float64)
    groups = x.reshape(2, 12, 2, 4)
    mean, variance = (f(axis=(1, 3), keepdims=True) for f in (groups.mean, groups.var))
    expected = (groups - mean) / np.sqrt(variance + 1e-5)
    expected = expected.reshape(x.shape) * params["scale"] + params["bias"]
    np.testing.assert_allclose(bind(params)(jnp.asarray(x, jnp.float32)), expected, atol=2e-5)
    assert convolutions.group_norm(48, _rngs()).num_groups == 12
    assert convolutions.group_norm(512, _rngs()).num_groups == 32


def _rngs():
    from flax import nnx

    return nnx.Rngs(0)


def test_levels_are_finer_and_coarser():
    bind, params = build.randomised(lambda rngs: upernet.Rescaling(12, rngs))
    shapes = [level.shape[1:3] for level in bind(params)(states())]
    assert shapes == [(24, 20), (12, 10), (6, 5), (3, 3)]


def test_the_pyramid_is_that_of_the_paper():
    """Top-down sums, level by level, with nothing but the modules' own parts."""
    bind, params = build.randomised(lambda rngs: Upernet(CFG, 12, rngs))
    net = bind(params)
    levels = net.rescaling(states())
    p4 = net.pooling(levels[3])
    up = convolutions.resized
    p3 = net.laterals[2](levels[2]) + up(p4, (6, 5))
    p2 = net.laterals[1](levels[1]) + up(p3, (12, 10))
    p1 = net.laterals[0](levels[0]) + up(p2, (24, 20))
    smooth = [net.smooth[0](p1), net.smooth[1](p2), net.smooth[2](p3), p4]
    fused = net.fuse(jnp.concatenate([up(x, (24, 20)) for x in smooth], axis=-1))
    logits, none = net(states())
    assert none is None and logits.shape == (2, 24, 20, 3)
    np.testing.assert_allclose(logits, net.classifier(fused), atol=1e-5)


def test_dropout_takes_whole_channels_and_only_with_a_key():
    net = build.randomised(lambda rngs: Upernet(UpernetConfig(3, 8, (1, 2, 3, 4), 0.5), 12, rngs))
    net = net[0](net[1])
    dropped = np.asarray(net._dropped(jnp.ones((2, 3, 3, 40)), jax.random.key(0)))
    assert set(np.unique(dropped)) == {0.0, 2.0}
    assert (dropped == dropped[:, :1, :1]).all() and 20 < (dropped[:, 0, 0] > 0).sum() < 60
    logits, auxiliary = net(states(), jax.random.key(0))
    assert logits.shape == (2, 24, 20, 3) and auxiliary.shape == (2, 6, 5, 3)


def test_a_frozen_encoder_has_no_gradient_and_all_of_a_free_one_has():
    stack = TransformerConfig(width=12, depth=4, heads=2, mlp_dim=24)
    vit = VitConfig(16, 4, stack, mask_token=False)
    bind, params = build.randomised(lambda rngs: Segmenter(vit, CFG, rngs))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)

    def loss(params, frozen):
        logits, auxiliary = bind(params)(images, jax.random.key(0), frozen=frozen)
        return jnp.square(logits).mean() + jnp.square(auxiliary).mean()

    for frozen in (True, False):
        gradient = jax.grad(loss)(params, frozen)
        moved = [float(np.abs(g).max()) > 0 for g in jax.tree.leaves(gradient["encoder"]["stack"])]
        assert all(moved) != frozen and any(moved) != frozen
        assert all(float(np.abs(g).max()) > 0 for g in jax.tree.leaves(gradient["decoder"]))


def test_depths():
    assert upernet.spaced(12) == (3, 6, 9, 12) and upernet.spaced(24) == (6, 12, 18, 24)
    assert upernet.spaced(4) == (1, 2, 3, 4)
    with pytest.raises(UserError, match="takes 4 depths of a ViT, and this one has 2 blocks"):
        upernet.spaced(2)
    with pytest.raises(UserError, match=r"depths \[1, 2\] of UPerNet: give 4"):
        UpernetConfig(2, 8, (1, 2))
