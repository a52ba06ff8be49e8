"""Gradients of a batch at once and in micro-batches, side by side."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.parallel.sharding import batch_sharding, replicated
from rsvl_jax.training import accumulate
from rsvl_jax.training.objective import total


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What of a `TrainState` gradients depend on."""

    params: Any
    frozen: Any
    step: Any


def compiled(model, count, variables, batch, *, devices=1, options=None):
    """(program, arguments): () -> ((loss, means), gradients), in `count` parts; 1: by `terms`."""
    mesh = make_mesh(devices=jax.devices()[:devices])
    rng = jax.random.key(7)

    def at_once(state, batch):
        def loss(params):
            terms = model.terms(params, state.frozen, batch, rng)
            return total(terms, model.weights, state.step)

        return jax.value_and_grad(loss, has_aux=True)(state.params)

    def in_parts(state, batch):
        accumulate.check(model, count)
        return accumulate.value_and_grad(model, count, state, batch, rng, mesh)

    state = State(variables["params"], variables["frozen"], jnp.int32(5))
    placed = jax.device_put(state, replicated(mesh)), jax.device_put(batch, batch_sharding(mesh))
    function = jax.jit(at_once if count == 1 else in_parts, compiler_options=options)
    return function.lower(*placed).compile(), placed


def run(*args, **options):
    """((loss, means), gradients) on the host."""
    program, placed = compiled(*args, **options)
    return jax.device_get(program(*placed))


def assert_equal(found, wanted, *, rtol=1e-5, grads=2e-5):
    """Losses and terms to `rtol`, each gradient to `grads` of its own largest entry."""
    (loss, means), tree = found
    (loss1, means1), tree1 = wanted
    np.testing.assert_allclose(loss, loss1, rtol=rtol)
    assert means.keys() == means1.keys()
    for name, mean in means1.items():
        np.testing.assert_allclose(means[name], mean, rtol=rtol, err_msg=name)

    def close(path, one, other):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        np.testing.assert_allclose(
            other, one, rtol=0, atol=grads * np.max(np.abs(one)), err_msg=name
        )

    jax.tree_util.tree_map_with_path(close, tree1, tree)
    trained = [np.any(leaf) for leaf in jax.tree.leaves(tree1)]
    assert np.mean(trained) > 0.7, "too few parameters are trained to tell"
