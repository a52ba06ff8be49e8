"""GRAFT's released layout: numbers of a tiny one, shapes of all four checkpoints."""

import math

import agreement
import numpy as np
import pytest
import run_graft
import stored

from rsvl_jax.errors import UserError
from rsvl_jax.weights import families, names
from rsvl_jax.weights.families import graft

FAMILY = graft.FAMILY
START = "satellite_image_backbone."


def test_embeddings_losses_and_gradients_are_the_originals():
    run_graft.check(FAMILY, stored.read("graft"), 1e-5)


def released(*, buffers=False, scale=True):
    """Shapes of a released checkpoint by name; buffers: as older versions of transformers."""
    tower, width = f"{START}vision_model", 768
    found = {
        f"{tower}.embeddings.class_embedding": (width,),
        f"{tower}.embeddings.patch_embedding.weight": (width, 3, 16, 16),
        f"{tower}.embeddings.position_embedding.weight": (197, width),
        f"{START}visual_projection.weight": (512, width),
        "projector.1.weight": (512, width),
    }
    norms = [f"{tower}.pre_layrnorm", f"{tower}.post_layernorm", "projector.0"]
    for layer in range(12):
        block = f"{tower}.encoder.layers.{layer}"
        norms += [f"{block}.layer_norm1", f"{block}.layer_norm2"]
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found[f"{block}.self_attn.{name}.weight"] = (width, width)
            found[f"{block}.self_attn.{name}.bias"] = (width,)
        for name, rows, columns in (("fc1", 3072, width), ("fc2", width, 3072)):
            found[f"{block}.mlp.{name}.weight"] = (rows, columns)
            found[f"{block}.mlp.{name}.bias"] = (rows,)
    for name in norms:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)
    if buffers:
        found[f"{tower}.embeddings.position_ids"] = (1, 197)
    return found | ({"logit_scale": ()} if scale else {})


@pytest.mark.parametrize("sensor", ["naip", "sentinel"])
@pytest.mark.parametrize("level", ["image", "patch"])
def test_all_four_checkpoints_are_held(sensor, level):
    """They differ in numbers alone; what varies between files are a buffer and the scale."""
    shapes = released(buffers=sensor == "naip", scale=level == "image")
    assert families.recognise(shapes) is FAMILY
    model = FAMILY.model(shapes, {})
    ours = {path: shape for path, (shape, _) in agreement.shapes_of(model).items()}
    count = sum(int(np.prod(shape)) for shape in ours.values())
    assert count == 86_192_640 + (768 + 768 + 512 * 768) + (level == "image")
    read = {
        name
        for entry in FAMILY.entries(model.settings)
        for row in entry.names(ours[entry.ours])
        for name in row
    }
    assert read == {name for name in shapes if not name.startswith(FAMILY.ignored)}
    stack = model.settings["satellite"]["vit"]["transformer"]
    assert (stack["heads"], stack["activation"], stack["ln_eps"]) == (12, "quick_gelu", 1e-5)
    assert (model.preprocessing["resize"], model.preprocessing["image_size"]) == ("square", 224)


@pytest.mark.parametrize("written", [1 / 0.07, math.log(1 / 0.07)])
def test_the_scale_is_read_as_its_logarithm(written):
    entries = [e for e in FAMILY.entries({"scale": True}) if e.ours == "scale/value"]
    given = {"logit_scale": np.float32(written).reshape(())}
    loaded = names.load(entries, given, {"scale/value": ()})
    np.testing.assert_allclose(loaded.arrays["scale/value"], math.log(1 / 0.07), rtol=1e-6)
    back = names.dump(entries, loaded.arrays)["logit_scale"]
    assert (back.shape, back.dtype) == ((), np.float32)
    np.testing.assert_allclose(back, 1 / 0.07, rtol=1e-6)
    again = names.load(entries, {"logit_scale": back}, {"scale/value": ()})
    assert again.arrays["scale/value"] == loaded.arrays["scale/value"]


def test_scales_come_back_bit_by_bit():
    entries = [e for e in FAMILY.entries({"scale": True}) if e.ours == "scale/value"]
    for value in np.random.default_rng(0).uniform(1.6, math.log(100), 500).astype(np.float32):
        theirs = names.dump(entries, {"scale/value": value.reshape(())})
        ours = names.load(entries, theirs, {"scale/value": ()}).arrays["scale/value"]
        assert ours == value


def test_a_projector_with_a_bias_is_refused():
    with pytest.raises(UserError, match="bias"):
        FAMILY.model({**released(), "projector.1.bias": (512,)}, {})
