"""Modules with every parameter random, so that no zero initial value hides a mistake."""

import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.models import functional


def randomised(make, seed=0, scale=0.3):
    """(function of params to module, params); norms' scales are around one, frozen is as made."""
    shapes = jax.eval_shape(lambda rng: functional.init(make, rng), jax.random.key(0))
    frozen = functional.init(make, jax.random.key(seed))["frozen"] if shapes["frozen"] else {}
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise = scale * rng.standard_normal(leaf.shape)
        return np.asarray(noise + (path[-1].key == "scale"), np.float32)

    graph = functional.structure(make)
    params = jax.tree_util.tree_map_with_path(draw, shapes["params"])
    return lambda p: functional.bind(graph, jax.tree.map(jnp.asarray, p), frozen), params


def count(make):
    """Numbers of trainable and of frozen parameters; allocates nothing."""
    trees = jax.eval_shape(lambda rng: functional.init(make, rng), jax.random.key(0))
    return tuple(
        sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(trees[name]))
        for name in ("params", "frozen")
    )


def close(actual, expected, tolerance):
    """Every leaf within `tolerance` of the largest value of its expected leaf."""
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, e = np.asarray(a, np.float64), np.asarray(e, np.float64)
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * max(np.abs(e).max(), 1e-30))
