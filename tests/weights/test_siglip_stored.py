"""SigLIP against what `transformers` computed; its layouts; what sets it apart from CLIP."""

import agreement
import jax
import numpy as np
import pytest
import run_clip
import stored

from rsvl_jax.errors import UserError
from rsvl_jax.weights import families, names
from rsvl_jax.weights.families import (
    clip_huggingface,
    clip_openai,
    siglip_huggingface,
    siglip_open_clip,
)

FAMILY, OPEN_CLIP = siglip_huggingface.FAMILY, siglip_open_clip.FAMILY


@pytest.fixture(scope="module")
def case():
    return stored.read("siglip")


def shapes(weights):
    return {name: value.shape for name, value in weights.items()}


def test_outputs_loss_and_gradients_are_those_of_transformers(case):
    run_clip.check(FAMILY, case, 1e-5)


def test_its_names_are_not_clips(case):
    assert families.recognise(shapes(case.weights)) is FAMILY
    for tower in ("vision_model.", "text_model."):
        lone = {n: v for n, v in case.weights.items() if n.startswith(tower)}
        bare = {n.removeprefix(tower): v for n, v in lone.items()}
        assert families.recognise(shapes(lone)) is FAMILY
        assert families.recognise(shapes(bare)) is FAMILY


@pytest.mark.parametrize("tower", ["vision", "text"])
@pytest.mark.parametrize("bare", [True, False])
def test_a_lone_tower_loads(case, tower, bare):
    start = f"{tower}_model."
    weights = {
        name.removeprefix(start) if bare else name: value
        for name, value in case.weights.items()
        if name.startswith(start)
    }
    model = agreement.imported(FAMILY, weights, case.config[f"{tower}_config"])
    assert set(model.model.parts) == {"image" if tower == "vision" else "text"}
    agreement.check_round_trip(model, weights)


def test_a_text_stands_at_its_end_and_sees_its_padding(case):
    model = agreement.imported(FAMILY, case.weights, case.config)
    run = jax.jit(model.module("text"))
    ids, mask = case.inputs["input_ids"], case.inputs["attention_mask"]
    padded = np.where(mask, ids, 5)
    assert np.abs(run(ids, mask) - run(padded, mask)).max() > 1e-2
    np.testing.assert_array_equal(run(ids, mask), run(ids, np.ones_like(mask)))


def test_clips_families_write_it_too(case):
    """A model of kind "clip" may be SigLIP's: the layout is chosen by its settings."""
    model = agreement.imported(FAMILY, case.weights, case.config)
    settings = model.model.settings
    written = names.dump(clip_huggingface.FAMILY.entries(settings), model.arrays)
    assert set(written) == set(case.weights)
    config = clip_huggingface.FAMILY.config(settings)
    assert (config["model_type"], config["architectures"]) == ("siglip", ["SiglipModel"])
    other = names.dump(clip_openai.FAMILY.entries(settings), model.arrays)
    assert families.recognise(shapes(other)) is OPEN_CLIP
    again = names.load(
        OPEN_CLIP.entries(settings), other, {k: v.shape for k, v in model.arrays.items()}
    )
    assert (again.missing, again.unused, again.mismatched) == ([], [], [])
    for path, value in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[path], value, err_msg=path)


def test_open_clip_is_told_what_timm_cannot_build(case):
    model = agreement.imported(FAMILY, case.weights, case.config)
    with pytest.raises(UserError, match="16 wide with 'gelu_tanh'"):
        clip_openai.FAMILY.config(model.model.settings)


@pytest.mark.parametrize(
    ("timm", "activation"),
    [
        ("", "gelu"),
        ("vit_base_patch16_siglip_224", "gelu"),
        ("vit_large_patch16_siglip_512", "gelu_tanh"),
        ("vit_so400m_patch14_siglip_384", "gelu"),
        ("vit_so400m_patch16_siglip_384", "gelu_tanh"),
    ],
)
def test_timms_names_say_the_activation_of_images(case, timm, activation):
    model = agreement.imported(FAMILY, case.weights, case.config)
    other = names.dump(OPEN_CLIP.entries(model.model.settings), model.arrays)
    config = {"vision_cfg": {"timm_model_name": timm}, "text_cfg": {"heads": 2}}
    found = OPEN_CLIP.model(shapes(other), config).settings
    assert found["image"]["vit"]["transformer"]["activation"] == activation
    assert found["text"]["text"]["transformer"]["activation"] == "gelu"


def test_the_base_model_goes_to_open_clip_under_timms_name(case):
    model = agreement.imported(FAMILY, case.weights, case.config).model
    image = model.settings["image"]
    stack = image["vit"]["transformer"] | {"width": 768, "heads": 12, "activation": "gelu"}
    vit = image["vit"] | {"transformer": stack, "image_size": 224, "patch_size": 16}
    settings = model.settings | {"image": image | {"vit": vit}}
    config = OPEN_CLIP.config(settings)["model_cfg"]
    assert config["vision_cfg"]["timm_model_name"] == "vit_base_patch16_siglip_224"
    assert config["text_cfg"]["no_causal_mask"] and config["text_cfg"]["proj_bias"]
