"""Each preset: its terms, their values at the start, its parameters, and eight devices for one."""

import math
import re

import jax
import numpy as np
import pytest
import tiny

FUSED = {"mmm_image", "mmm_text", "itm"}
TERMS = {
    "flavars": {"mim", "mlm", *FUSED, "image_text", "image_location"},
    "flava": {"mim", "mlm", *FUSED, "image_text"},
    "clip": {"image_text"},
    "mae": {"mim"},
    "satclip": {"image_location"},
}
TOWERS = {
    "flavars": {"image", "text", "fusion", "location"},
    "flava": {"image", "text", "fusion"},
    "clip": {"image", "text"},
    "mae": {"image"},
    "satclip": {"image", "location"},
}


@pytest.mark.parametrize("preset", tiny.PRESETS)
def test_terms_and_parts_of_a_preset(preset):
    model, variables = tiny.prepared(preset)
    assert set(model.weights) == TERMS[preset]
    towers = {"image", "text", "fusion", "location"} & set(variables["params"])
    assert towers == TOWERS[preset]
    axes = model.logical_axes()
    for kind in ("params", "frozen"):
        shapes = jax.tree.map(np.ndim, variables[kind])
        is_names = lambda leaf: isinstance(leaf, tuple)  # noqa: E731
        assert jax.tree.map(len, axes[kind], is_leaf=is_names) == shapes


@pytest.mark.parametrize("preset", tiny.PRESETS)
def test_values_at_the_start(preset):
    model, variables = tiny.prepared(preset)
    params = dict(variables["params"])
    for name in model.contrasts:  # at the usual scale of 14, random places are far from uniform
        params[name] = params[name] | {"scale": {"value": np.float32(0)}}
    (loss, terms), _ = tiny.run(preset, params=params)
    assert set(terms) == TERMS[preset]
    weighted = sum(model.weights[name] * value for name, value in terms.items())
    assert float(loss) == pytest.approx(weighted, rel=1e-5)
    contrast = math.log(16)
    bands = {
        "mim": (math.log(tiny.CODES), 0.1),
        "mmm_image": (math.log(tiny.CODES), 0.1),
        "mlm": (math.log(tiny.VOCAB), 0.1),
        "mmm_text": (math.log(tiny.VOCAB), 0.1),
        "itm": (math.log(2), 0.05),
        "image_text": (contrast, 0.2),
        "image_location": (contrast, 0.5),
    }
    if preset == "mae":  # unit-variance targets, predictions near zero
        bands = {"mim": (1.0, 0.1)}
    for name, value in terms.items():
        middle, width = bands[name]
        assert value == pytest.approx(middle, abs=width), name


@pytest.mark.parametrize("preset", tiny.PRESETS)
def test_gradients_reach_every_parameter(preset):
    _, variables = tiny.prepared(preset)
    _, grads = tiny.run(preset)
    grads = tiny.named(grads)
    assert set(grads) == set(tiny.named(variables["params"]))
    for name, grad in grads.items():
        assert np.all(np.isfinite(grad)), name
        assert np.max(np.abs(grad)) > 1e-6, f"{name} is trained by nothing"


@pytest.mark.parametrize("preset", tiny.PRESETS)
def test_eight_devices_equal_one(preset):
    (loss1, terms1), grads1 = tiny.run(preset)
    (loss8, terms8), grads8 = tiny.run(preset, devices=8)
    assert float(loss8) == pytest.approx(float(loss1), rel=2e-6)
    assert terms8 == pytest.approx(terms1, rel=5e-6)
    ones, eights = tiny.named(grads1), tiny.named(grads8)
    for name, one in ones.items():
        np.testing.assert_allclose(
            eights[name], one, rtol=0, atol=2e-5 * np.max(np.abs(one)), err_msg=name
        )


def test_rows_stay_on_their_device():
    """Two views in one pass must not shuffle the batch: only small embeddings are gathered."""
    program = tiny.compiled("flavars", 8)[0].as_text()
    assert "all-to-all" not in program
    assert "collective-permute" not in program
    gathered = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather\(", program)
    assert gathered
    sizes = [math.prod(int(size) for size in shape.split(",") if size) for shape in gathered]
    assert max(sizes) <= 16 * 12  # batch by embedding


def test_one_seed_gives_one_image_encoder():
    flavars, clip = (tiny.prepared(preset)[1]["params"] for preset in ("flavars", "clip"))
    for name, leaf in tiny.named(clip["image"]).items():
        np.testing.assert_array_equal(leaf, tiny.named(flavars["image"])[name], err_msg=name)


def test_project_clamps_the_logit_scales_alone():
    model, variables = tiny.prepared("flavars")
    params = jax.tree.map(lambda leaf: leaf + 9.0, variables["params"])
    projected = model.project(params)
    changed = {
        name
        for name, leaf in tiny.named(projected).items()
        if np.any(np.asarray(leaf) != tiny.named(params)[name])
    }
    assert changed == {"image_text/scale/value", "image_location/scale/value"}
    assert model.scalars(projected)["logit_scale/image_text"] == pytest.approx(100, rel=1e-4)
    low = model.project(jax.tree.map(lambda leaf: leaf - 9.0, variables["params"]))
    assert model.scalars(low)["logit_scale/image_location"] == 1


def test_free_logit_scales_stay_as_they_are():
    model = tiny.objective("satclip", objective__logit_scale_max=None)
    params = {"image_location": {"scale": {"value": np.float32(9.0)}}}
    assert model.project(params) is params
