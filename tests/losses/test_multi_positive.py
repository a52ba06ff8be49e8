"""Many photos a tile: against float64 loops, block by block, on eight devices; memory compiled."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from multi_positive_loops import Loops

from rsvl_jax.losses import contrastive, multi_positive

B, P, E = 7, 4, 5
SCALE = math.log(1 / 0.07)
LEVELS = ("image", "pixel")
BLOCKS = (None, 1, 3, 64)  # 3 does not divide the tiles, 64 is more than there are


def batch(level, seed=0, tiles=B, masks=True):
    """Ragged photos, one tile without any; ids that repeat within and between tiles; overlaps."""
    rng = np.random.default_rng(seed)
    slots = () if level == "image" else (P,)
    mask = rng.random((tiles, P)) < 0.6
    mask[2] = False
    mask[3] = True
    arrays = {
        "anchors": rng.standard_normal((tiles, *slots, E)).astype(np.float32),
        "photos": rng.standard_normal((tiles, P, E)).astype(np.float32),
        "mask": mask,
    }
    if not masks:
        return arrays
    near = rng.random((tiles, tiles)) < 0.2
    ids = rng.integers(-1, 3 * tiles, (tiles, P)).astype(np.int32)
    ids[3, 1] = ids[3, 0]
    return arrays | {"photo_ids": ids, "ignore": near | near.T}


def value(kind, **arguments):
    extra = {"logit_bias": jnp.float32(-3.0)} if kind == "sigmoid" else {}
    if kind == "symmetric":
        extra = {"symmetric": True}
    function = multi_positive.sigmoid if kind == "sigmoid" else multi_positive.info_nce
    return function(**{"logit_scale": jnp.float32(SCALE), **extra, **arguments})


def expected(kind, data, scale=SCALE):
    loops = Loops(logit_scale=scale, **data)
    return loops.sigmoid(-3.0) if kind == "sigmoid" else loops.info_nce(kind == "symmetric")


KINDS = ("info_nce", "symmetric", "sigmoid")


def test_the_batches_have_what_is_to_be_tested():
    data = batch("image")
    ids, mask = data["photo_ids"], data["mask"]
    used = ids[mask]
    assert not mask.any(1).all() and len(set(mask.sum(1))) > 2
    assert len(set(used)) < len(used) - 1
    assert data["ignore"].any() and not data["ignore"].all()
    plain = {key: data[key] for key in ("anchors", "photos", "mask")}
    without = expected("info_nce", plain)[0]
    for key in ("photo_ids", "ignore"):
        assert abs(expected("info_nce", plain | {key: data[key]})[0] - without) > 1e-3


@pytest.mark.parametrize("block_rows", BLOCKS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", LEVELS)
def test_values_equal_float64_loops(level, kind, block_rows):
    run = jax.jit(functools.partial(value, kind, block_rows=block_rows))
    for seed in (0, 1):
        data = batch(level, seed)
        np.testing.assert_allclose(run(**data), expected(kind, data), rtol=1e-5)


@pytest.mark.parametrize("block_rows", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_without_ids_and_overlaps_all_photos_are_compared(kind, block_rows):
    plain = batch("image", masks=False)
    found = value(kind, block_rows=block_rows, **plain)
    np.testing.assert_allclose(found, expected(kind, plain), rtol=1e-5)


def slopes(kind, data, name, step=1e-5):
    """Central differences of the float64 loops by every entry of one argument."""
    base = np.asarray(SCALE if name == "logit_scale" else data[name], np.float64)
    found = np.zeros(base.shape)
    for index in np.ndindex(base.shape):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved[index] += sign * step
            changed = {"scale": float(moved)} if name == "logit_scale" else {}
            given = data if name == "logit_scale" else data | {name: moved}
            ends.append(expected(kind, given, **changed)[0])
        found[index] = (ends[0] - ends[1]) / (2 * step)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", LEVELS)
def test_gradients_are_the_slopes_of_the_loops(level, kind):
    data = batch(level)
    names = ("anchors", "photos", "logit_scale")
    wanted = {name: slopes(kind, data, name) for name in names}
    for block_rows in (None, 3):

        def total(varied, block_rows=block_rows):
            return value(kind, **(data | varied), block_rows=block_rows)[0]

        varied = {"anchors": data["anchors"], "photos": data["photos"]}
        grads = jax.jit(jax.grad(total))({**varied, "logit_scale": jnp.float32(SCALE)})
        for name in names:
            np.testing.assert_allclose(grads[name], wanted[name], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("block_rows", [None, 3])
def test_the_gradient_of_the_bias_is_its_slope(block_rows):
    data = batch("pixel")

    def total(bias):
        return value("sigmoid", **data, logit_bias=bias, block_rows=block_rows)[0]

    loops = Loops(logit_scale=SCALE, **data)
    slope = (loops.sigmoid(-3.0 + 1e-5)[0] - loops.sigmoid(-3.0 - 1e-5)[0]) / 2e-5
    assert float(jax.grad(total)(jnp.float32(-3.0))) == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", LEVELS)
def test_eight_devices_give_the_values_and_gradients_of_one(level, kind):
    data = batch(level, tiles=16)
    varied = ("anchors", "photos")

    def loss(arrays, fixed, block_rows):
        return value(kind, **arrays, **fixed, block_rows=block_rows)[0]

    results = {}
    uneven = 5 if level == "pixel" else 8
    for devices, block_rows in ((1, None), (8, None), (8, uneven)):
        mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
        rows = NamedSharding(mesh, PartitionSpec("data"))
        step = jax.jit(jax.value_and_grad(functools.partial(loss, block_rows=block_rows)))
        arrays = jax.device_put({name: data[name] for name in varied}, rows)
        fixed = {name: data[name] for name in data if name not in varied}
        results[devices, block_rows] = jax.device_get(step(arrays, jax.device_put(fixed, rows)))
    one, one_grads = results.pop((1, None))
    np.testing.assert_allclose(one, expected(kind, data)[0], rtol=1e-5)
    for found, grads in results.values():
        np.testing.assert_allclose(found, one, rtol=1e-5)
        for name in varied:
            np.testing.assert_allclose(grads[name], one_grads[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("block_rows", [None, 3])
@pytest.mark.parametrize("level", LEVELS)
def test_one_photo_a_tile_is_clip_and_siglip(level, block_rows):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, B, E)).astype(np.float32)
    arguments = {"photos": b[:, None], "mask": np.ones((B, 1), bool), "block_rows": block_rows}
    arguments["anchors"] = a if level == "image" else a[:, None]
    scale, bias = jnp.float32(SCALE), jnp.float32(-3.0)
    clip = contrastive.info_nce(a=a, b=b, logit_scale=scale)
    np.testing.assert_allclose(value("symmetric", **arguments), clip, rtol=1e-5)
    siglip = contrastive.sigmoid(a=a, b=b, logit_scale=scale, logit_bias=bias)
    np.testing.assert_allclose(value("sigmoid", **arguments), siglip, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copied_photo_is_never_a_negative(kind):
    """Two tiles with one photo, the same: each costs what it does alone."""
    data = batch("image", masks=False) | {"mask": np.zeros((B, P), bool)}
    data["mask"][:2, 0] = True
    ids = np.zeros((B, P), np.int32)
    total, count = value(kind, **data, photo_ids=ids)
    alone = [
        value(kind, **{**data, "mask": data["mask"] & (np.arange(B) == i)[:, None]})[0]
        for i in (0, 1)
    ]
    assert float(count) == 2
    assert float(total) == pytest.approx(float(sum(alone)), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("level", "block_rows"), [("image", None), ("pixel", 3)])
def test_padding_is_never_read(level, kind, block_rows):
    data = batch(level)
    hidden = ~data["mask"][..., None]
    spoiled = data | {"photos": np.where(hidden, np.nan, data["photos"])}
    spoiled["photo_ids"] = np.where(data["mask"], data["photo_ids"], data["photo_ids"][3, 0])
    if level == "pixel":
        spoiled["anchors"] = np.where(hidden, np.nan, data["anchors"])

    def run(varied, data):
        return value(kind, **(data | varied), block_rows=block_rows)[0]

    step = jax.jit(jax.value_and_grad(run))
    results = [
        step({key: given[key] for key in ("anchors", "photos")}, given) for given in (data, spoiled)
    ]
    for clean, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(other, clean, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_rows", [None, 3])
def test_no_photos_and_zero_embeddings_are_finite(kind, block_rows):
    data = {"anchors": jnp.zeros((B, E)), "photos": jnp.zeros((B, P, E))}
    for mask, count in ((np.zeros((B, P), bool), 0), (np.ones((B, P), bool), B)):

        def run(arrays, mask=mask):
            found = value(kind, **arrays, mask=mask, block_rows=block_rows)
            return found[0], found

        (_, found), grads = jax.value_and_grad(run, has_aux=True)(data)
        assert float(found[1]) == count and np.isfinite(found[0])
        assert float(found[0]) > 0 or not count
        assert all(np.all(np.isfinite(grad)) for grad in jax.tree.leaves(grads))


def test_the_largest_scale_neither_overflows_nor_loses_its_last_digits():
    data = batch("pixel")
    found = [
        value("symmetric", **data, logit_scale=jnp.float32(math.log(100)), block_rows=size)
        for size in (None, 2)
    ]
    wanted = expected("symmetric", data, scale=math.log(100))
    np.testing.assert_allclose(found, [wanted, wanted], rtol=1e-5)


def test_half_precision_photos_are_contrasted_in_float32():
    data = batch("image")
    half = data["photos"].astype(np.float16)
    found = value("info_nce", **(data | {"photos": half}))
    wanted = value("info_nce", **(data | {"photos": half.astype(np.float32)}))
    assert found[0].dtype == jnp.float32
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("level", LEVELS)
def test_blocks_need_the_same_memory_whatever_the_batch(level):
    """Of value and gradient, beside what is as large as the arguments."""

    def temporaries(tiles, block_rows):
        slots = () if level == "image" else (P,)
        shapes = [(tiles, *slots, 64), (tiles, P, 64)]
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        mask = jax.ShapeDtypeStruct((tiles, P), bool)

        def loss(anchors, photos, mask):
            return value(
                "symmetric", anchors=anchors, photos=photos, mask=mask, block_rows=block_rows
            )[0]

        program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arrays, mask).compile()
        return program.memory_analysis().temp_size_in_bytes, 4 * sum(map(math.prod, shapes))

    small, arguments = temporaries(256, 16)
    large, more = temporaries(1024, 16)
    assert large - small < 6 * (more - arguments)  # what grows is unit vectors and gradients
    assert large < temporaries(1024, None)[0] / 4
