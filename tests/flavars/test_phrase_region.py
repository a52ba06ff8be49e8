"""The contrast of phrases and regions: its value by a loop, what masks and devices change."""

import functools

import jax
import numpy as np
import pytest
import tiny
from training import in_parts

from configs import flavars
from flavars_jax.inputs import Inputs
from flavars_jax.settings import from_config
from rsvl_jax.models import functional
from rsvl_jax.parallel.mesh import make_mesh

ON = {"objective__weights__phrase_region": 1.0}
NAME = "phrase_region"


@functools.cache
def built():
    model = tiny.objective("clip", **ON)
    variables = tiny.drawn(model)
    return model, variables, tiny.step_of(model)


def run(samples):
    model, variables, step = built()
    (loss, terms), grads = step(variables["params"], variables["frozen"], {"paired": samples})
    assert np.isfinite(loss)
    return jax.device_get(terms[NAME]), jax.device_get(grads)


def in_box(box, patch):
    """Pixels of a patch in a box."""
    y, x = (tiny.PATCH * place for place in divmod(patch, tiny.SIZE // tiny.PATCH))
    wide = min(box[2], x + tiny.PATCH) - max(box[0], x)
    high = min(box[3], y + tiny.PATCH) - max(box[1], y)
    return max(wide, 0) * max(high, 0)


def reference(s):
    """float64 loops over the regions that are there, heads and towers aside."""
    model, variables, _ = built()
    params = variables["params"]

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def towers(params, s):
        net = functional.bind(model._graph, params, variables["frozen"])
        flat = [s[key].reshape(-1, tiny.PHRASE) for key in ("region_text", "region_text_mask")]
        return net.image(net.normalize(s["image"])).tokens[:, 1:], net.text(*flat).tokens[:, 0]

    patches, words = (np.asarray(x, np.float64) for x in towers(params, s))
    pooled, phrases, ids = [], [], []
    for row, region in np.argwhere(s["region_mask"]):
        areas = [in_box(s["region_boxes"][row, region], patch) for patch in range(tiny.N)]
        pooled.append(sum(a * p for a, p in zip(areas, patches[row], strict=True)) / sum(areas))
        phrases.append(words[row * tiny.REGIONS + region])
        ids.append(s["region_id"][row, region])
    head = params["image_text"]
    pair = [
        np.stack(x) @ head[tower]["kernel"] + head[tower]["bias"]
        for x, tower in ((pooled, "image"), (phrases, "text"))
    ]
    same = np.equal.outer(ids, ids)
    scale = float(params[NAME]["scale"]["value"])
    return tiny.contrast(pair, scale, np.ones(len(ids)), same), len(ids)


def test_the_term_is_that_of_a_loop_over_regions():
    s = tiny.sample()
    (total, count), grads = run(s)
    wanted, regions = reference(s)
    assert count == regions == s["region_mask"].sum()
    assert total / count == pytest.approx(wanted, rel=2e-5)
    assert abs(grads[NAME]["scale"]["value"]) > 1e-6


def test_it_trains_both_towers_by_itself():
    model, variables, _ = built()

    @functools.partial(jax.jit, compiler_options=tiny.QUICK)
    def slope(params):
        def term(params):
            batch = {"paired": tiny.sample()}
            return model.terms(params, variables["frozen"], batch, jax.random.key(0))[NAME][0]

        return jax.grad(term)(params)

    grads = tiny.named(slope(variables["params"]))
    untouched = {name for name, grad in grads.items() if np.max(np.abs(grad)) < 1e-6}
    assert untouched == {"image_text/scale/value"}


def test_what_stands_in_masked_places_changes_nothing():
    s, other = tiny.sample(), tiny.sample()
    gone = ~s["region_mask"]
    other["region_boxes"][gone] = (3, 3, 3, 3)
    other["region_text"][gone] = 7
    other["region_id"][gone] = s["region_id"][1, 0]
    (one, grads), (two, others) = run(s), run(other)
    np.testing.assert_allclose(two, one, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_a_batch_without_a_box_is_zero_with_finite_gradients():
    s = tiny.sample()
    s["region_mask"][:] = False
    (total, count), grads = run(s)
    assert total == count == 0
    assert all(np.all(np.isfinite(grad)) for grad in jax.tree.leaves(grads))
    assert grads[NAME]["scale"]["value"] == 0


@functools.cache
def at_once():
    """Loss, terms and gradients of 32 rows on one device."""
    model, variables, _ = built()
    return in_parts.run(model, 1, variables, {"paired": tiny.sample(32)}, options=tiny.QUICK)


@pytest.mark.parametrize("implementation", ["dense", "gather", "ring"])
def test_eight_devices_in_every_way_and_in_parts(implementation):
    _, variables, _ = built()
    batch = {"paired": tiny.sample(32)}
    mesh = make_mesh(devices=jax.devices())
    spread = tiny.FlavarsObjective(
        tiny.config("clip", contrast__implementation=implementation, **ON), mesh=mesh
    )
    found = in_parts.run(spread, 2, variables, batch, devices=8, options=tiny.QUICK)
    in_parts.assert_equal(found, at_once())


def test_off_it_costs_nothing():
    model = tiny.objective("clip")
    assert NAME not in jax.eval_shape(model.init, jax.random.key(0))["params"]
    assert NAME not in model.weights
    assert model.flops_per_sample() < built()[0].flops_per_sample()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_pipeline_brings_boxes_where_they_are_asked_for(weight, mini_earth_tiles):
    config = flavars.get_config("clip")
    config.data.update(name="earth_tiles/mini", dir=mini_earth_tiles, batch_size=8)
    config.data.update(flip_horizontal=True, rotate=True)
    config.objective.weights.phrase_region = weight
    inputs, settings = Inputs.open(config), from_config(config)
    batches = inputs.batches(config, settings, make_mesh(devices=jax.devices()[:1]), 0)
    sample = jax.device_get(next(batches))["paired"]
    batches.close()
    assert ("region_boxes" in sample) == bool(weight)
    if weight:
        assert sample["region_text"].shape == (8, 8, 16)
        assert sample["region_mask"].any(1).all()
        sizes = sample["region_boxes"][..., 2:] - sample["region_boxes"][..., :2]
        assert (sizes[sample["region_mask"]] >= 1).all()
        assert (sizes[~sample["region_mask"]] == 0).all()
