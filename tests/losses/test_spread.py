"""Contrasts spread over eight devices: the values and gradients of one, and what is refused."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from multi_positive_loops import Loops

from rsvl_jax.errors import UserError
from rsvl_jax.losses import contrastive, multi_positive, relation
from rsvl_jax.losses.distributed import DENSE_BYTES, Plan, Spread

B, P, E = 16, 3, 24  # wide enough for small arrays to travel packed
SCALE, BIAS = math.log(1 / 0.07), -3.0
MESHES = {
    "8": {"data": 8},
    "2x2x2": {"replica": 2, "data": 2, "fsdp": 2},
    "tensor": {"data": 4, "tensor": 2},
}
# (implementation, mesh, axes gathered within, rows in a block)
SPREADS = (
    ("gather", "8", (), None),
    ("gather", "tensor", (), 3),
    ("ring", "8", (), None),
    ("ring", "2x2x2", (), 1),
    ("ring", "2x2x2", ("replica", "fsdp"), None),
    ("ring", "tensor", (), 3),
)


@functools.cache
def mesh(name):
    sizes = MESHES[name]
    axis_types = (AxisType.Auto,) * len(sizes)
    return jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=axis_types)


def spread(implementation, name, inner=()):
    axes = tuple(axis for axis in MESHES[name] if axis != "tensor")
    return Spread(implementation, mesh(name), axes, inner)


def placed(arrays, by):
    return jax.device_put(arrays, NamedSharding(by.mesh, PartitionSpec(by.axes)))


def compiled(loss):
    """((sum, count), gradients of the sum by the first argument) of a loss of arrays."""

    def run(varied, *fixed):
        total, pull, count = jax.vjp(lambda x: loss(x, *fixed), varied, has_aux=True)
        return (total, count), pull(jnp.ones(()))[0]

    # Dozens of programs that run for a millisecond each.
    return jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})


def unit64(x):
    """Unit vectors and the map of gradients by them to gradients by x, float64."""
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    y = x / length
    return y, lambda dy: (dy - y * (dy * y).sum(-1, keepdims=True)) / length


def closed_form(kind, a, b, positives, weights):
    """Value and gradients by a, b, scale and bias, by hand in float64."""
    (x, back_a), (y, back_b) = unit64(a), unit64(b)
    cosines, scale = x @ y.T, math.exp(SCALE)
    wanted = positives | np.eye(B, dtype=bool)
    if kind == "info_nce":
        total, slope = 0.0, np.zeros((B, B))
        for z, match, turn in (
            (scale * cosines, wanted, slope),
            (scale * cosines.T, wanted.T, slope.T),
        ):
            lse = np.log(np.exp(z).sum(1, keepdims=True))
            target = match / match.sum(1, keepdims=True)
            total += (weights * (lse[:, 0] - (target * z).sum(1))).sum() / 2
            turn += weights[:, None] * (np.exp(z - lse) - target) / 2
        dbias = 0.0
    else:
        z, sign = scale * cosines + BIAS, np.where(wanted, -1.0, 1.0)
        pair = (weights[:, None] + weights[None]) / 2
        total = (pair * np.log1p(np.exp(sign * z))).sum()
        slope = pair * sign / (1 + np.exp(-sign * z))
        dbias = slope.sum()
    gradients = back_a(scale * slope @ y), back_b(scale * slope.T @ x)
    return total, (*gradients, (slope * scale * cosines).sum(), dbias)


def pairs(seed=0):
    """Embeddings, captions that repeat, and weights, of which some are 0."""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, B, E)).astype(np.float32)
    b[3], a[5] = a[3], a[4]
    ids, matches = rng.integers(0, 6, B), rng.random(B) < 0.8
    return a, b, ids, matches, (rng.random(B) < 0.7).astype(np.float32)


@pytest.mark.parametrize("positives", ["none", "ids", "matrix"])
@pytest.mark.parametrize("kind", ["info_nce", "sigmoid"])
def test_values_and_gradients_are_the_closed_form(kind, positives):
    a, b, ids, matches, weights = pairs()
    want = np.zeros((B, B), bool)
    if positives != "none":
        want = (ids[:, None] == ids) & matches[:, None]

    def loss(varied, ids, matches, weights, by, block_rows):
        a, b, scale, bias = varied
        alike = None
        if positives != "none":
            alike = relation.same_id(ids, a=matches)
            alike = alike if positives == "ids" else alike.matrix()
        extra = {"logit_bias": bias} if kind == "sigmoid" else {}
        return getattr(contrastive, kind)(
            a=a,
            b=b,
            logit_scale=scale,
            positives=alike,
            row_weights=weights,
            block_rows=block_rows,
            spread=by,
            **extra,
        )

    total, gradients = closed_form(kind, a, b, want, weights)
    cases = {"none": SPREADS[3:5], "ids": SPREADS, "matrix": SPREADS[-1:]}[positives]
    for implementation, name, inner, block_rows in cases:
        by = spread(implementation, name, inner)
        run = functools.partial(loss, by=by, block_rows=block_rows)
        arrays = placed((a, b, ids, matches, weights), by)
        varied = (*arrays[:2], jnp.float32(SCALE), jnp.float32(BIAS))
        (value, count), found = jax.device_get(compiled(run)(varied, *arrays[2:]))
        np.testing.assert_allclose(value, total, rtol=2e-6, err_msg=str(by))
        assert float(count) == weights.sum()
        for got, wanted in zip(found, gradients, strict=True):
            atol = 2e-6 * np.abs(wanted).max()
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=atol, err_msg=str(by))


def photos(level, seed=0):
    """Ragged photos, a tile without any, copies within and between tiles, overlapping tiles."""
    rng = np.random.default_rng(seed)
    mask = rng.random((B, P)) < 0.7
    mask[2], mask[3] = False, True
    slots = () if level == "image" else (P,)
    ids = rng.integers(0, 2 * B, (B, P)).astype(np.int32)
    ids[3, 1] = ids[3, 0]
    varied = {
        "anchors": rng.standard_normal((B, *slots, E)).astype(np.float32),
        "photos": rng.standard_normal((B, P, E)).astype(np.float32),
    }
    fixed = {"mask": mask, "photo_ids": ids, "place": rng.random(B).astype(np.float32)}
    return varied, fixed


def near(a, b):
    return jnp.abs(a[:, None] - b[None, :]) < 0.1


def multi_positive_loss(kind, varied, fixed, by, block_rows, matrix):
    arrays, scale, bias = varied
    fixed = dict(fixed)
    place = fixed.pop("place")
    ignore = relation.Relation(place, place, near)
    extra = {"logit_bias": bias} if kind == "sigmoid" else {"symmetric": kind == "symmetric"}
    return getattr(multi_positive, "sigmoid" if kind == "sigmoid" else "info_nce")(
        **arrays,
        **fixed,
        logit_scale=scale,
        ignore=ignore.matrix() if matrix else ignore,
        block_rows=block_rows,
        spread=by,
        **extra,
    )


def loops(kind, varied, fixed):
    arrays, scale, bias = varied
    fixed = dict(fixed)
    place = fixed.pop("place")
    found = Loops(**arrays, **fixed, logit_scale=scale, ignore=np.abs(place[:, None] - place) < 0.1)
    return found.sigmoid(bias) if kind == "sigmoid" else found.info_nce(kind == "symmetric")


def moved(varied, direction, step):
    return jax.tree.map(lambda x, d: np.asarray(x, np.float64) + step * d, varied, direction)


@pytest.mark.parametrize(
    ("level", "kind"),
    [("image", "symmetric"), ("image", "sigmoid"), ("pixel", "info_nce"), ("pixel", "symmetric")],
)
def test_many_photos_have_the_values_and_slopes_of_float64_loops(level, kind):
    arrays, fixed = photos(level)
    varied = arrays, np.float32(SCALE), np.float32(BIAS)
    want = loops(kind, varied, fixed)
    rng = np.random.default_rng(1)
    directions = [jax.tree.map(lambda x: rng.standard_normal(x.shape), varied) for _ in range(4)]
    slopes = [
        (
            loops(kind, moved(varied, d, 1e-5), fixed)[0]
            - loops(kind, moved(varied, d, -1e-5), fixed)[0]
        )
        / 2e-5
        for d in directions
    ]
    cases = SPREADS[2::2] if level == "image" else SPREADS[1::2]
    for implementation, name, inner, block_rows in cases:
        by = spread(implementation, name, inner)
        loss = functools.partial(
            multi_positive_loss, kind, by=by, block_rows=block_rows, matrix=name == "tensor"
        )
        found, gradients = jax.device_get(
            compiled(loss)((placed(arrays, by), *varied[1:]), placed(fixed, by))
        )
        np.testing.assert_allclose(found, want, rtol=2e-6, err_msg=str(by))
        for slope, direction in zip(slopes, directions, strict=True):
            along = sum(map(np.vdot, jax.tree.leaves(gradients), jax.tree.leaves(direction)))
            assert along == pytest.approx(slope, rel=2e-5, abs=1e-4), by


def test_padding_is_never_read_on_the_way_around():
    arrays, fixed = photos("pixel")
    by = spread("ring", "2x2x2", ("fsdp",))
    loss = functools.partial(multi_positive_loss, "symmetric", by=by, block_rows=None, matrix=False)
    step, hidden = compiled(loss), ~fixed["mask"][..., None]
    spoiled = jax.tree.map(lambda x: np.where(hidden, np.nan, x), arrays)
    clean, other = (
        jax.device_get(step((placed(given, by), SCALE, BIAS), placed(fixed, by)))
        for given in (arrays, spoiled)
    )
    jax.tree.map(np.testing.assert_array_equal, other, clean)


def test_bfloat16_travels_as_it_is_and_is_contrasted_in_float32():
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in pairs()[:2])
    by = spread("ring", "8")

    def loss(varied):
        return contrastive.info_nce(**varied, logit_scale=jnp.float32(SCALE), spread=by)

    step = compiled(loss)
    low = step(placed({"a": a, "b": b}, by))
    want, slopes = closed_form(
        "info_nce", *(np.asarray(x) for x in (a, b)), np.eye(B) > 0, np.ones(B)
    )
    np.testing.assert_allclose(low[0][0], want, rtol=2e-6)
    assert low[1]["a"].dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(low[1]["a"], np.float64), slopes[0], rtol=1e-2, atol=1e-3)


def test_plans():
    """What "auto" and one device become."""
    ring = spread("ring", "8")
    assert spread("dense", "8").plan(tiles=64) is None
    assert Spread("gather").plan(tiles=64) is None
    assert Spread("ring").plan(tiles=2048, photos=8) == Plan(512, 64)
    assert ring.plan(tiles=64) == Plan(8, 8, ring.mesh, (), ("data",))
    across = spread("ring", "2x2x2", ("fsdp",)).plan(tiles=8192, photos=8)
    assert (across.inner, across.outer, across.rows, across.columns) == (
        ("fsdp",),
        ("replica", "data"),
        512,
        64,
    )
    assert (across.gathered, across.hops) == (2, 4)
    limit = math.isqrt(8 * DENSE_BYTES // 4) // 8 * 8
    auto = spread("auto", "8")
    assert auto.plan(tiles=limit) is None
    assert auto.plan(tiles=limit + 8) == ring.plan(tiles=limit + 8)
    assert auto.plan(tiles=limit // 2, photos=8) is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Spread("rign"), "contrast.implementation is 'rign'; choose one of dense"),
        (lambda: Spread("ring", mesh("8")), "mesh axes 'replica', which is not one of data"),
        (lambda: spread("ring", "8", ("fsdp",)), "mesh inner 'fsdp', which is not one of data"),
        (
            lambda: spread("ring", "8").plan(tiles=12),
            "12 samples does not divide over 8 devices .axes data.; choose a multiple of 8",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
