"""The contrast against published golden values, float64 loops, and itself on eight devices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from torch_random import TorchRandom

from rsvl_jax.losses import contrastive

INITIAL = math.log(1 / 0.07)


def mean(term):
    return term[0] / jnp.maximum(term[1], 1)


def embeddings(rows=16, width=5, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, width)).astype(np.float32) for _ in range(2))


def info_nce_float64(a, b, scale, positives, weights):
    """Double loop over rows and positives; cosines."""
    a, b = (
        x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in (a, b)
    )
    logits = math.exp(scale) * a @ b.T
    total = 0.0
    for i in range(len(a)):
        for direction, matches in ((logits, positives), (logits.T, positives.T)):
            denominator = np.exp(direction[i]).sum()
            costs = [
                -math.log(math.exp(direction[i, j]) / denominator)
                for j in np.flatnonzero(matches[i])
            ]
            total += weights[i] * np.mean(costs) / 2
    return total, weights.sum()


def sigmoid_float64(a, b, scale, bias, positives, weights):
    a, b = (
        x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in (a, b)
    )
    total = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            sign = 1 if positives[i, j] else -1
            logit = sign * (math.exp(scale) * a[i] @ b[j] + bias)
            total += math.log1p(math.exp(-logit)) * (weights[i] + weights[j]) / 2
    return total, weights.sum()


def captions(rows, seed=1):
    """ids with repeats, the mask they make, and weights with zeros."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, rows // 2, rows)
    return ids, ids[:, None] == ids[None], rng.integers(0, 2, rows).astype(np.float32)


def test_golden_value_of_torchmultimodal():
    # facebookresearch/multimodal test_contrastive_loss_with_temperature.py
    draws = TorchRandom(1234)
    a, b = draws.randn(3, 5), draws.randn(3, 5)
    np.testing.assert_allclose(
        a[0], [0.04613046, 0.40240282, -1.0115291, 0.21673824, -0.6122731], rtol=1e-5
    )
    np.testing.assert_allclose(
        b[2], [0.09182223, -0.86249423, 0.15959068, 0.8184132, -0.7648915], rtol=1e-5
    )
    loss = contrastive.info_nce(a=a, b=b, logit_scale=jnp.asarray(INITIAL), normalize=False)
    assert float(mean(loss)) == pytest.approx(9.8753, abs=1e-4)


def linear_encoders():
    draws = TorchRandom(0)
    image, text = draws.randn(4, 8), draws.randn(4, 5)
    (wi, bi), (wt, bt) = draws.linear(8, 3), draws.linear(5, 3)
    params = {"wi": wi, "bi": bi, "wt": wt, "bt": bt, "scale": np.float32(INITIAL)}
    return jax.tree.map(jnp.asarray, params), image, text


def encoders_loss(params, image, text):
    a = image @ params["wi"].T + params["bi"]
    b = text @ params["wt"].T + params["bt"]
    return mean(contrastive.info_nce(a=a, b=b, logit_scale=params["scale"], normalize=False))


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_golden_gradients_of_torchmultimodal(devices):
    params, image, text = linear_encoders()
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    rows, whole = (NamedSharding(mesh, spec) for spec in (PartitionSpec("data"), PartitionSpec()))
    step = jax.jit(jax.value_and_grad(encoders_loss), in_shardings=(whole, rows, rows))
    loss, grads = step(params, image, text)
    assert float(loss) == pytest.approx(3.8848, abs=1e-4)
    assert float(grads["wi"].mean()) == pytest.approx(0.0979, abs=1e-3)
    assert float(grads["bt"].mean()) == pytest.approx(-1.8151, abs=1e-3)
    assert float(grads["scale"]) == pytest.approx(3.6792, abs=1e-3)


def test_clamped_scale_of_torchmultimodal():
    a, b = embeddings(3)

    def loss(scale, low, high):
        scale = contrastive.clamp(logit_scale=jnp.asarray(scale), low=low, high=high)
        return float(mean(contrastive.info_nce(a=a, b=b, logit_scale=scale, normalize=False)))

    assert loss(3.0, None, 2.0) == loss(2.0, None, 2.0) != loss(3.0, None, None)
    assert loss(1.0, 2.0, None) == loss(2.0, 2.0, None) != loss(1.0, None, None)
    assert loss(9.0, 0.0, math.log(100)) == loss(math.log(100), None, None)


def test_info_nce_with_many_positives_equals_float64_loops():
    a, b = embeddings()
    ids, positives, weights = captions(16)
    assert positives.sum() > 16 + 8  # there is something to test
    np.testing.assert_array_equal(contrastive.identical(jnp.asarray(ids)), positives)
    got = contrastive.info_nce(
        a=a, b=b, logit_scale=jnp.asarray(2.0), positives=positives, row_weights=weights
    )
    np.testing.assert_allclose(got, info_nce_float64(a, b, 2.0, positives, weights), rtol=1e-5)


def test_asymmetric_positives_are_read_as_rows_of_a():
    a, b = embeddings(6)
    positives = np.eye(6, dtype=bool)
    positives[0, 3] = True
    got = contrastive.info_nce(a=a, b=b, logit_scale=jnp.asarray(1.0), positives=positives)
    np.testing.assert_allclose(got, info_nce_float64(a, b, 1.0, positives, np.ones(6)), rtol=1e-5)


def test_single_positives_are_plain_clip():
    a, b = embeddings()
    plain = contrastive.info_nce(a=a, b=b, logit_scale=jnp.asarray(INITIAL))
    masked = contrastive.info_nce(
        a=a, b=b, logit_scale=jnp.asarray(INITIAL), positives=np.eye(16, dtype=bool)
    )
    np.testing.assert_array_equal(plain, masked)
    clip = info_nce_float64(a, b, INITIAL, np.eye(16, dtype=bool), np.ones(16))
    np.testing.assert_allclose(plain, clip, rtol=1e-5)


def test_rows_left_out_still_distract():
    a, b = embeddings(4)
    weights = np.array([1.0, 0.0, 1.0, 1.0])
    kept = contrastive.info_nce(a=a, b=b, logit_scale=jnp.asarray(1.0), row_weights=weights)
    alone = contrastive.info_nce(a=a[weights > 0], b=b[weights > 0], logit_scale=jnp.asarray(1.0))
    assert float(kept[1]) == float(alone[1]) == 3
    assert float(kept[0]) > float(alone[0])


def test_sigmoid_equals_float64_loops():
    a, b = embeddings()
    _, positives, weights = captions(16)
    got = contrastive.sigmoid(
        a=a,
        b=b,
        logit_scale=jnp.log(10.0),
        logit_bias=jnp.asarray(-4.0),
        positives=positives,
        row_weights=weights,
    )
    want = sigmoid_float64(a, b, math.log(10.0), -4.0, positives, weights)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_no_rows_and_zero_embeddings_are_finite(kind):
    extra = {"logit_bias": jnp.asarray(-1.0)} if kind == "sigmoid" else {}

    def loss(a, b, weights):
        term = getattr(contrastive, kind)(
            a=a, b=b, logit_scale=jnp.asarray(INITIAL), row_weights=weights, **extra
        )
        return mean(term), term

    zeros = jnp.zeros((4, 3))
    (value, term), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        zeros, zeros, jnp.zeros(4)
    )
    assert float(value) == 0 and float(term[1]) == 0
    assert all(np.all(np.asarray(grad) == 0) for grad in grads)
    grads = jax.grad(lambda *x: loss(*x)[0], (0, 1))(zeros, zeros, jnp.ones(4))
    assert all(np.all(np.isfinite(grad)) for grad in grads)


@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_eight_devices_give_the_values_and_gradients_of_one(kind):
    a, b = embeddings(32, 8)
    ids, _, weights = captions(32)
    extra = {"logit_bias": jnp.asarray(-2.0)} if kind == "sigmoid" else {}

    def loss(a, b, scale, ids, weights):
        positives = contrastive.identical(ids)
        return mean(
            getattr(contrastive, kind)(
                a=a, b=b, logit_scale=scale, positives=positives, row_weights=weights, **extra
            )
        )

    results = []
    for devices in (1, 8):
        mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
        rows = NamedSharding(mesh, PartitionSpec("data"))
        whole = NamedSharding(mesh, PartitionSpec())
        step = jax.jit(
            jax.value_and_grad(loss, (0, 1, 2)), in_shardings=(rows, rows, whole, rows, rows)
        )
        results.append(jax.device_get(step(a, b, jnp.asarray(INITIAL), ids, weights)))
    (loss1, grads1), (loss8, grads8) = results
    np.testing.assert_allclose(loss8, loss1, rtol=2e-6)
    for one, eight in zip(grads1, grads8, strict=True):
        np.testing.assert_allclose(eight, one, rtol=1e-5, atol=1e-7)


def test_bfloat16_inputs_are_contrasted_in_float32():
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in embeddings())
    low = contrastive.info_nce(a=a, b=b, logit_scale=jnp.asarray(INITIAL))
    high = contrastive.info_nce(
        a=a.astype(jnp.float32), b=b.astype(jnp.float32), logit_scale=jnp.asarray(INITIAL)
    )
    assert low[0].dtype == jnp.float32
    np.testing.assert_array_equal(low, high)


@pytest.mark.parametrize("blocks", [None, 3])
@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_pairs_that_are_not_there_are_as_if_the_batch_were_smaller(kind, blocks):
    a, b = embeddings(8)
    ids, _, weights = captions(8)
    positives, weights = ids[:, None] == ids[None], weights + 0.5
    present = np.array([True, False, True, True, False, True, True, False])
    more = {"logit_bias": jnp.asarray(-3.0)} if kind == "sigmoid" else {}

    def loss(vectors, positives, weights, present):
        scale = {"logit_scale": jnp.asarray(2.0), **more}
        return getattr(contrastive, kind)(
            a=vectors[0],
            b=vectors[1],
            positives=positives,
            row_weights=weights,
            present=present,
            block_rows=blocks,
            **scale,
        )

    value = jax.value_and_grad(lambda *all: (found := loss(*all))[0] + 0 * found[1])
    got, slopes = value((a, b), positives, weights, present)
    left = np.ix_(present, present)
    smaller = ((a[present], b[present]), positives[left], weights[present], None)
    wanted, wanted_slopes = value(*smaller)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    np.testing.assert_allclose(
        loss((a, b), positives, weights, present)[1], weights[present].sum(), rtol=1e-6
    )
    for mine, theirs in zip(slopes, wanted_slopes, strict=True):
        np.testing.assert_allclose(mine[present], theirs, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(mine[~present], 0)


@pytest.mark.parametrize("blocks", [None, 3])
def test_no_pair_at_all_costs_nothing(blocks):
    a, b = embeddings(4)

    def loss(a):
        absent = np.zeros(4, bool)
        return contrastive.info_nce(
            a=a, b=b, logit_scale=jnp.asarray(2.0), present=absent, block_rows=blocks
        )

    assert [float(x) for x in loss(a)] == [0, 0]
    np.testing.assert_array_equal(jax.grad(lambda a: loss(a)[0])(a), 0)
