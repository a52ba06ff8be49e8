from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training.toy import MANIFEST, Toy, batches, config, host_batch

from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training.objective import total
from rsvl_jax.training.optimizer import decay_mask, make_optimizer
from rsvl_jax.training.plan import make_plan
from rsvl_jax.training.state import abstract_state, create_state
from rsvl_jax.training.step import CompiledStep, make_step

TOPOLOGIES = {
    "data 8": {"data": 8},
    "fsdp 8": {"data": 1, "fsdp": 8},
    "fsdp 4 x tensor 2": {"data": 1, "fsdp": 4, "tensor": 2},
    "replica 2 x data 2 x fsdp 2": {"replica": 2, "data": 2, "fsdp": 2},
}


def build(mesh, conf=None, toy=None):
    conf, toy = conf or config(), toy or Toy()
    _, lengths = make_plan(conf, MANIFEST)
    optimizer = make_optimizer(conf.optimizer, toy.logical_axes()["params"], lengths)
    abstract = abstract_state(toy, optimizer, mesh)
    state = create_state(toy, optimizer, abstract, conf.seed)
    return state, CompiledStep(toy, optimizer, abstract, mesh, conf.seed)


def run(mesh, steps=5, **build_args):
    state, step = build(mesh, **build_args)
    losses, stream = [], batches(mesh)(0)
    for _ in range(steps):
        batch = next(stream)
        step.prepare(state, batch)
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert step.compilations == 1
    return state, losses


@pytest.fixture(scope="module")
def single():
    return run(make_mesh(devices=jax.devices()[:1]))


def assert_close(tree, expected, atol):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-5), tree, expected
    )


def test_equals_a_plain_optax_loop(single):
    toy, conf = Toy(), config()
    state, _ = build(make_mesh(devices=jax.devices()[:1]))
    params = ema = jax.device_get(state.params)
    mask = decay_mask(toy.logical_axes()["params"])
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            lambda step: 1e-2 * jnp.minimum(1.0, (step + 1) / 3),
            b1=0.9,
            b2=0.98,
            eps=1e-8,
            weight_decay=0.1,
            mask=mask,
        ),
    )
    opt_state, losses = optimizer.init(params), []

    def loss_fn(p, batch, step):
        rng = jax.random.fold_in(jax.random.key(conf.seed), step)
        terms = toy.terms(p, state.frozen, batch, rng)
        (contrast, n), (fit, m) = terms["contrast"], terms["fit"]
        return contrast / n + jnp.minimum(1.0, 0.1 * step) * fit / m

    @jax.jit
    def update(params, opt_state, batch, step):
        loss, grads = jax.value_and_grad(loss_fn)(params, batch, step)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return toy.project(optax.apply_updates(params, updates)), opt_state, loss

    for step in range(5):
        params, opt_state, loss = update(params, opt_state, host_batch(step), step)
        ema = jax.tree.map(lambda e, p: 0.9 * e + 0.1 * p, ema, params)
        losses.append(float(loss))
    np.testing.assert_allclose(single[1], losses, rtol=1e-5)
    assert_close(single[0].params, params, 1e-6)
    assert_close(single[0].ema, ema, 1e-6)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("sizes", TOPOLOGIES.values(), ids=TOPOLOGIES)
def test_every_topology_gives_the_losses_and_parameters_of_one_device(sizes, single):
    state, losses = run(make_mesh(**sizes))
    np.testing.assert_allclose(losses, single[1], rtol=2e-5)
    assert_close(state.params, single[0].params, 1e-5)
    assert_close(state.ema, single[0].ema, 1e-5)


def test_initial_values_do_not_depend_on_the_mesh():
    one, _ = build(make_mesh(devices=jax.devices()[:1]))
    many, _ = build(make_mesh(data=1, fsdp=4, tensor=2))
    jax.tree.map(np.testing.assert_array_equal, one.params, many.params)


def test_moments_and_average_are_placed_like_their_parameters():
    state, _ = run(make_mesh(data=1, fsdp=4, tensor=2), steps=1)
    adam = next(s for s in state.opt_state if isinstance(s, optax.ScaleByAdamState))
    for tree in (adam.mu, adam.nu, state.ema):
        jax.tree.map(
            lambda x, p: x.sharding == p.sharding or pytest.fail(str(x)), tree, state.params
        )
    kernel = state.params["image"]["in"]["kernel"]
    assert kernel.addressable_shards[0].data.shape == (16 // 4, 32 // 2)
    assert adam.count.is_fully_replicated


def test_state_is_donated_and_frozen_parameters_stay():
    mesh = make_mesh(devices=jax.devices()[:1])
    state, step = build(mesh)
    target = np.array(state.frozen["target"])  # a copy: a view would keep the buffer alive
    batch = next(batches(mesh)(0))
    step.prepare(state, batch)
    new, _ = step(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(batch))
    np.testing.assert_array_equal(new.frozen["target"], target)
    memory = step.lower(new, batch).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= 0.9 * sum(x.nbytes for x in jax.tree.leaves(new))


def test_another_batch_shape_is_another_program_and_never_silent():
    mesh = make_mesh(devices=jax.devices()[:1])
    state, step = build(mesh)
    small = jax.device_put(host_batch(0, 8))
    assert step.prepare(state, next(batches(mesh)(0)))
    assert not step.prepare(state, next(batches(mesh)(1)))
    with pytest.raises(KeyError):
        step(state, small)
    assert step.prepare(
        state, jax.device_put(host_batch(0, 8), next(batches(mesh)(0))["image"].sharding)
    )
    assert step.compilations == 2


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_nonfinite_update_is_withheld(poison):
    mesh = make_mesh(devices=jax.devices()[:1])
    conf = config()
    _, lengths = make_plan(conf, MANIFEST)
    toy = Toy()
    optimizer = make_optimizer(conf.optimizer, toy.logical_axes()["params"], lengths)
    abstract = abstract_state(toy, optimizer, mesh)
    old = create_state(toy, optimizer, abstract, 0)
    batch = host_batch(0)
    batch["image"][3, 2] = poison
    new, metrics = jax.jit(make_step(toy, optimizer, 0))(old, batch)
    assert not metrics["finite"]
    assert int(new.step) == 1
    assert int(new.skipped) == 1
    kept = replace(new, step=old.step, skipped=old.skipped)
    jax.tree.map(np.testing.assert_array_equal, kept, old)


def test_project_runs_after_the_update():
    class Hot(Toy):
        def project(self, params):
            return {**params, "logit_scale": jnp.minimum(params["logit_scale"], 0.5)}

    state, _ = run(make_mesh(devices=jax.devices()[:1]), steps=1, toy=Hot())
    assert float(state.params["logit_scale"]) == 0.5


def test_total_weighs_means_and_refuses_missing_names():
    terms = {"a": (jnp.float32(6.0), jnp.int32(3)), "b": (jnp.float32(0.0), jnp.int32(0))}
    loss, means = total(terms, {"a": lambda step: 10.0 * step, "b": 5.0}, jnp.int32(2))
    assert float(loss) == 40.0
    assert {name: float(mean) for name, mean in means.items()} == {"a": 2.0, "b": 0.0}
    for weights in ({"a": 1.0}, {"a": 1.0, "b": 1.0, "c": 1.0}):
        with pytest.raises(ValueError, match="differ"):
            total(terms, weights, jnp.int32(0))
