"""Micro-batches against the whole batch: a small objective, its topologies, and refusals."""

import gzip
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import in_parts
from training.toy import DIN, MANIFEST, Toy, batches, config

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.parallel.sharding import batch_sharding
from rsvl_jax.training import accumulate, loop
from rsvl_jax.training.objective import Split
from rsvl_jax.training.optimizer import make_optimizer
from rsvl_jax.training.plan import make_plan
from rsvl_jax.training.state import abstract_state, create_state
from rsvl_jax.training.step import CompiledStep, make_step

ROWS, COUNT = 64, 8


class SplitToy(Split, Toy):
    """The towers of `Toy`: a contrast, and a regression with ragged weights; noise on request."""

    noise = 0.0

    def __init__(self):
        super().__init__()
        self.weights = {"contrast": 2.0, "fit": lambda step: 0.1 * step}

    def embed(self, params, frozen, batch, rng):
        a, b = (_tower(params[name], batch[name]) for name in ("image", "text"))
        return a + self.noise * jax.random.normal(rng, a.shape), b

    def encode(self, params, frozen, batch, rng):
        a, b = self.embed(params, frozen, batch, rng)
        error = jnp.sum((a - batch["image"] @ frozen["target"]) ** 2, axis=1)
        # Rows weigh from 0 to 3: the mean of the batch is not the mean of its parts' means.
        weights = jnp.floor(jnp.abs(batch["text"][:, 0]) * 3).clip(max=3)
        return (a, b), {"fit": (jnp.sum(error * weights), jnp.sum(weights))}

    def relate(self, params, frozen, embeddings, batch):
        a, b = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in embeddings)
        logits = jnp.exp(params["logit_scale"]) * a @ b.T
        return {"contrast": (-jnp.trace(jax.nn.log_softmax(logits)), jnp.int32(len(a)))}


class NormedToy(SplitToy):
    """With statistics of the batch between the towers and the contrast."""

    @property
    def whole_batch(self):
        return {"batch norm": "it normalises by statistics of all rows"}


def _tower(params, x):
    return jnp.tanh(x @ params["in"]["kernel"] + params["in"]["bias"]) @ params["out"]["kernel"]


def sample(rows=ROWS):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=(rows, DIN)).astype(np.float32) for name in ("image", "text")}


@pytest.fixture(scope="module")
def variables():
    return jax.device_get(Toy().init(jax.random.key(0)))


@pytest.fixture(scope="module")
def at_once(variables):
    return in_parts.run(SplitToy(), 1, variables, sample())


@pytest.mark.parametrize("count", [2, 8, 64])
def test_micro_batches_give_the_gradient_of_the_batch(count, variables, at_once):
    in_parts.assert_equal(in_parts.run(SplitToy(), count, variables, sample()), at_once)


def test_eight_devices_give_it_too(variables, at_once):
    in_parts.assert_equal(in_parts.run(SplitToy(), 4, variables, sample(), devices=8), at_once)


def test_the_mean_of_micro_batches_would_be_another_loss(variables, at_once):
    """What these tests tell apart: fewer negatives, and a mean of means."""
    parts = accumulate.cut(sample(), COUNT)
    rows = [jax.tree.map(lambda x, i=i: x[i], parts) for i in range(COUNT)]
    means = [in_parts.run(SplitToy(), 1, variables, part)[0][1] for part in rows]
    for name in ("contrast", "fit"):
        wanted = float(at_once[0][1][name])
        assert abs(np.mean([mean[name] for mean in means]) - wanted) > 1e-3 * wanted


def test_noise_in_both_passes_is_the_same(variables):
    """Against the whole loss written down at once, with the draws of each micro-batch."""
    toy, batch, rng = SplitToy(), sample(), jax.random.key(7)
    toy.noise = 0.5
    keys = jax.random.split(rng, COUNT)

    def loss(params):
        parts = [toy.encode(params, variables["frozen"], part, key) for part, key in rows]
        embeddings = jax.tree.map(lambda *x: jnp.concatenate(x), *(e for e, _ in parts))
        (value, count), *_ = toy.relate(params, {}, embeddings, batch).values()
        fits, counts = zip(*(terms["fit"] for _, terms in parts), strict=True)
        return 2.0 * value / count + 0.1 * 5 * sum(fits) / sum(counts)

    cut = accumulate.cut(batch, COUNT)
    rows = [(jax.tree.map(lambda x, i=i: x[i], cut), keys[i]) for i in range(COUNT)]
    wanted, grads = jax.jit(jax.value_and_grad(loss))(variables["params"])
    (found, means), tree = in_parts.run(toy, COUNT, variables, batch)
    in_parts.assert_equal(((found, {}), tree), ((wanted, {}), grads))
    assert set(means) == {"contrast", "fit"}


def build(mesh, **options):
    toy, conf = SplitToy(), config()
    _, lengths = make_plan(conf, MANIFEST)
    optimizer = make_optimizer(conf.optimizer, toy.logical_axes()["params"], lengths)
    abstract = abstract_state(toy, optimizer, mesh)
    state = create_state(toy, optimizer, abstract, conf.seed)
    return state, CompiledStep(toy, optimizer, abstract, mesh, conf.seed, **options)


def steps(mesh, count):
    """Losses of three steps, the parameters after them, and the program."""
    state, step = build(mesh, micro_batches=count)
    losses, stream = [], batches(mesh, ROWS)(0)
    for _ in range(3):
        batch = next(stream)
        step.prepare(state, batch)
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert step.compilations == 1
    return losses, jax.device_get(state.params), step.lower(state, batch)


@pytest.fixture(scope="module")
def single():
    return steps(make_mesh(devices=jax.devices()[:1]), 1)


@pytest.mark.parametrize(
    "sizes",
    [{"data": 8}, {"data": 1, "fsdp": 4, "tensor": 2}, {"replica": 2, "data": 2, "fsdp": 2}],
    ids=str,
)
def test_steps_in_micro_batches_on_every_topology(sizes, single):
    losses, params, lowered = steps(make_mesh(**sizes), 4)
    np.testing.assert_allclose(losses, single[0], rtol=2e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5), params, single[1]
    )
    assert not re.findall(r"all-to-all|collective-permute", lowered.compile().as_text())


def test_one_micro_batch_is_the_plain_step(monkeypatch, single):
    def never(*args, **kwargs):
        raise AssertionError("one micro-batch needs no second pass")

    monkeypatch.setattr(accumulate, "value_and_grad", never)
    state, step = build(make_mesh(devices=jax.devices()[:1]))
    batch = next(batches(make_mesh(devices=jax.devices()[:1]), ROWS)(0))
    assert step.lower(state, batch).as_text() == single[2].as_text()


def test_a_run_takes_its_batches_in_parts(tmp_path):
    """And may go on with other parts."""
    mesh = make_mesh(devices=jax.devices()[:1])
    states = {}
    for name, parts in {"whole": (1, 1), "parts": (4, 2)}.items():
        for steps, count in zip((4, 8), parts, strict=True):
            conf = config(steps=steps, training__micro_batches=count)
            run = {"config": conf, "manifest": MANIFEST, "mesh": mesh}
            workdir = str(tmp_path / name)
            states[name] = loop.fit(
                objective=SplitToy(), make_batches=batches(mesh), workdir=workdir, **run
            )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5),
        states["parts"].params,
        states["whole"].params,
    )
    files = [(tmp_path / name / "step.stablehlo.gz").read_bytes() for name in states]
    loops = [gzip.decompress(content).count(b"stablehlo.while") for content in files]
    assert loops[1] >= loops[0] + 2  # the two passes, at least


def test_a_run_refuses_parts_before_anything_is_written(tmp_path):
    mesh = make_mesh()
    for objective, count, words in [(Toy(), 2, "no embeddings"), (SplitToy(), 4, "multiple of 32")]:
        conf = config(training__micro_batches=count)
        with pytest.raises(UserError, match=words):
            loop.fit(
                config=conf,
                objective=objective,
                make_batches=batches(mesh),
                manifest=MANIFEST,
                workdir=str(tmp_path / "run"),
                mesh=mesh,
            )
    assert not (tmp_path / "run").exists()


class SumsToy(Split, Toy):
    """The regression of `SplitToy` alone: sums over rows, and nothing to relate."""

    def __init__(self):
        self.weights = {"fit": 1.0}

    def encode(self, params, frozen, batch, rng):
        return {}, SplitToy().encode(params | {"text": params["image"]}, frozen, batch, rng)[1]


def test_sums_alone_are_encoded_once(variables):
    """Their counts, which are needed first, are had without the networks."""
    variables = {**variables, "params": {"image": variables["params"]["image"]}}
    results, products = [], []
    for count in (COUNT, 1):
        program, placed = in_parts.compiled(SumsToy(), count, variables, sample())
        results.append(jax.device_get(program(*placed)))
        products.append(len(re.findall(r"= \S+ dot\(", program.as_text())))
    in_parts.assert_equal(*results)
    assert products[0] == products[1] > 0


def test_rows_stay_on_their_device_and_come_back_in_order():
    x = np.arange(48, dtype=np.int32)
    mesh = make_mesh()
    placed = jax.device_put(x, batch_sharding(mesh))
    cut = jax.jit(lambda x: accumulate.cut(x, 3, mesh))
    program = cut.lower(placed).compile().as_text()
    assert not re.findall(r"all-to-all|all-gather|collective-permute|all-reduce", program)
    parts = cut(placed)
    assert parts.shape == (3, 16)
    for shard in parts.addressable_shards:
        mine = next(s for s in placed.addressable_shards if s.device == shard.device)
        np.testing.assert_array_equal(np.sort(np.ravel(shard.data)), mine.data)
    np.testing.assert_array_equal(jax.jit(lambda x: accumulate.join(x, mesh))(parts), x)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "8", None])
def test_counts_that_are_none_are_refused(count):
    with pytest.raises(UserError, match=f"training.micro_batches={count!r} must be"):
        accumulate.check(SplitToy(), count)


def test_what_cannot_be_split_is_refused_with_the_reason():
    accumulate.check(Toy(), 1)
    with pytest.raises(UserError, match="micro_batches=2: Toy has terms .* no embeddings"):
        make_step(Toy(), None, 0, micro_batches=2)
    with pytest.raises(UserError, match="batch norm needs the whole batch .* statistics of all"):
        accumulate.check(NormedToy(), 2)


def test_batches_that_do_not_divide_are_refused(variables):
    mesh = make_mesh()
    accumulate.check_rows(64, 8, mesh)
    words = "batch of 60 rows .*micro_batches=8 over 8 devices; choose a multiple of 64"
    with pytest.raises(UserError, match=words):
        accumulate.check_rows(60, 8, mesh)
    with pytest.raises(UserError, match="image of 64 rows .*micro_batches=3 over 1 devices"):
        in_parts.run(SplitToy(), 3, variables, sample())


def test_embeddings_that_are_no_rows_are_refused(variables):
    class Summary(SplitToy):
        def embed(self, params, frozen, batch, rng):
            return tuple(x.mean(axis=0) for x in super().embed(params, frozen, batch, rng))

        def encode(self, params, frozen, batch, rng):
            return self.embed(params, frozen, batch, rng), {}

    with pytest.raises(ValueError, match=r"shape \(8,\) do not begin with .16. rows"):
        in_parts.compiled(Summary(), 4, variables, sample())
