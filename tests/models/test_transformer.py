import functools

import build
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from rsvl_jax.errors import UserError
from rsvl_jax.models import backend, transformer
from rsvl_jax.models.transformer import Stack, TransformerConfig

LENGTHS = np.array([11, 1, 5, 8])
MASK = np.arange(11) < LENGTHS[:, None]
X = np.random.default_rng(1).standard_normal((4, 11, 24)).astype(np.float32)
COTANGENT = np.random.default_rng(2).standard_normal(X.shape).astype(np.float32) * MASK[..., None]
PLAIN = {"attention": "xla", "slices": 1}


def config(**changes):
    return TransformerConfig(
        **{"width": 24, "depth": 2, "heads": 3, "mlp_dim": 40, "ln_eps": 1e-6, **changes}
    )


@functools.cache
def run(masked=True, **changes):
    """Outputs at real tokens, and the gradients of parameters and inputs."""
    mask = MASK if masked else None
    bind, params = build.randomised(lambda r: Stack(config(**changes), r))

    @jax.jit
    def both(params, x):
        y, pullback = jax.vjp(lambda p, x: bind(p)(x, mask), params, x)
        return y, pullback(COTANGENT.astype(y.dtype))

    y, gradients = both(params, X)
    return np.asarray(y, np.float32) * MASK[..., None], gradients


def test_stack_is_the_formula_in_float64():
    bind, params = build.randomised(lambda r: Stack(config(), r))
    expected = X.astype(np.float64)
    for layer in range(2):
        weights = jax.tree.map(lambda leaf, i=layer: leaf[i].astype(np.float64), params["layers"])
        expected = reference.block(expected, weights, MASK, 1e-6)
    build.close(jax.jit(bind(params))(X, MASK), expected, 3e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention": "dot"},
        {"attention": "dot", "slices": 4},
        {"attention": "dot", "slices": 3},  # does not divide the batch: two are taken
        {"scan": False},
        {"remat": "full"},
        {"remat": "full", "scan": False},
        {"remat": "attention", "attention": "dot"},
        {"remat": "qkv+attention+residual+hidden", "attention": "dot", "slices": 2},
        {"remat": "dots_with_no_batch_dims_saveable"},
    ],
    ids=str,
)
def test_every_way_of_running_gives_the_same_values_and_gradients(changes):
    build.close(run(**{**PLAIN, **changes}), run(**PLAIN), 1e-5)


def test_without_a_mask_too():
    build.close(run(masked=False, attention="dot"), run(masked=False, **PLAIN), 1e-5)


def test_gradient_is_the_slope():
    bind, params = build.randomised(lambda r: Stack(config(attention="dot"), r))
    direction = jax.tree.map(lambda leaf: np.sign(leaf) * 1e-3, params)

    def loss(params):
        return (bind(params)(X, MASK) * COTANGENT).sum()

    loss, gradient = jax.jit(loss), jax.jit(jax.grad(loss))(params)
    slope = sum(map(np.vdot, *map(jax.tree.leaves, (gradient, direction))))
    ahead, behind = (
        float(loss(jax.tree.map(lambda p, d, s=sign: p + s * d, params, direction)))
        for sign in (1, -1)
    )
    assert float(slope) == pytest.approx((ahead - behind) / 2, rel=1e-2)


def test_padding_changes_nothing_at_real_tokens():
    other = np.where(MASK[..., None], X, 7.0)
    for attention in ("dot", "xla"):
        bind, params = build.randomised(lambda r, a=attention: Stack(config(attention=a), r))
        module = jax.jit(bind(params))
        one, two = (np.asarray(module(x, MASK)) for x in (X, other))
        np.testing.assert_array_equal(one[MASK], two[MASK])
        short = np.asarray(module(X[:, :8], MASK[:, :8]))  # the first row loses real tokens
        np.testing.assert_allclose(short[1:][MASK[1:, :8]], one[1:][MASK[1:]], atol=1e-5)


def test_bfloat16_is_near_float32_and_keeps_float32_parameters():
    y, (gradient, _) = run(dtype="bfloat16", remat="attention")
    expected, (reference_gradient, _) = run()
    assert np.abs(y - expected).max() < 0.03 * np.abs(expected).max()
    for g, e in zip(*map(jax.tree.leaves, (gradient, reference_gradient)), strict=True):
        assert g.dtype == jnp.float32
        assert np.linalg.norm(g - e) < 0.05 * np.linalg.norm(e)
    bind, params = build.randomised(lambda r: Stack(config(dtype="bfloat16"), r))
    assert jax.eval_shape(bind(params), X).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ["gelu_tanh", "quick_gelu"])
def test_other_activations_differ_and_run(name):
    y, _ = run(activation=name)
    expected, _ = run()
    assert 1e-4 < np.abs(y - expected).max() < 1


def test_dropout_needs_a_key_and_repeats_with_it():
    bind, params = build.randomised(lambda r: Stack(config(dropout=0.5), r))
    module = jax.jit(lambda rng: bind(params)(X, MASK, rng=rng))
    np.testing.assert_allclose(module(None) * MASK[..., None], run()[0], atol=1e-5)
    one, again, other = (module(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.1


def test_dropout_zeroes_the_given_share_and_keeps_the_mean():
    x = jnp.ones((1000, 50))
    y = np.asarray(transformer.dropout(x, 0.25, jax.random.key(0)))
    assert np.unique(y).tolist() == pytest.approx([0, 1 / 0.75])
    assert (y == 0).mean() == pytest.approx(0.25, abs=0.01)


def test_a_program_for_another_device_is_not_cut_for_this_one():
    assert not backend.lone_cpu()  # these tests simulate eight
    with backend.compiling_for("tpu"):
        assert backend.kind() == "tpu"
    assert backend.kind() == "cpu"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "width 24 is not divisible by heads 5"),
        ({"dtype": "float16"}, "float16"),
        ({"activation": "relu6"}, "relu6"),
        ({"attention": "flash"}, "flash"),
        ({"remat": "some"}, "some"),
        ({"remat": "qkv+some"}, "qkv[+]some"),
        ({"remat": "save_only_these_names"}, "save_only_these_names"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        config(**changes)
