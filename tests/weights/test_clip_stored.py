"""CLIP against what the originals computed; layouts of names; sizes, activations, configs."""

import agreement
import jax
import numpy as np
import pytest
import run_clip
import stored

from rsvl_jax.errors import UserError
from rsvl_jax.weights import families, names
from rsvl_jax.weights.families import clip_huggingface, clip_openai
from rsvl_jax.weights.kinds import parts

HUGGINGFACE, OPENAI = clip_huggingface.FAMILY, clip_openai.FAMILY
BASE_16 = {"image": 86_192_640, "text": 63_428_096, "scale": 1}


@pytest.mark.parametrize("name", ["clip_quick_gelu", "clip_gelu"])
def test_outputs_loss_and_gradients_are_those_of_transformers(name):
    run_clip.check(HUGGINGFACE, stored.read(name), 1e-5)


def test_outputs_and_loss_are_those_of_open_clip():
    run_clip.check(OPENAI, stored.read("clip_open_clip"), 1e-5)


def test_the_activation_is_not_a_detail():
    case = stored.read("clip_quick_gelu")
    for tower in ("text_config", "vision_config"):
        case.config[tower]["hidden_act"] = "gelu"
    with pytest.raises(AssertionError):
        run_clip.check(HUGGINGFACE, case, 1e-3)


def shapes(weights):
    return {name: value.shape for name, value in weights.items()}


def test_families_are_told_apart_by_their_names():
    for name, family in (("clip_quick_gelu", HUGGINGFACE), ("clip_open_clip", OPENAI)):
        assert families.recognise(shapes(stored.read(name).weights)) is family


@pytest.mark.parametrize("start", ["vision_model.", ""])
@pytest.mark.parametrize("projected", [True, False])
def test_a_lone_image_tower_loads(start, projected):
    case = stored.read("clip_quick_gelu")
    weights = {
        name.replace("vision_model.", start): value
        for name, value in case.weights.items()
        if name.startswith("vision_model.") or (projected and name.startswith("visual_"))
    }
    weights[f"{start}embeddings.position_ids"] = np.arange(5)[None]
    model = agreement.imported(HUGGINGFACE, weights, case.config["vision_config"])
    assert set(model.model.parts) == {"image"}
    images = case.inputs["pixel_values"].transpose(0, 2, 3, 1)
    out = jax.jit(model.module("image"))(images)
    agreement.check_close(
        {"image_hidden": out.hidden}, {"image_hidden": case.outputs["image_hidden"]}, 1e-5
    )
    assert out.embedding.shape == (4, 12 if projected else 20)
    agreement.check_round_trip(model, weights)


@pytest.mark.parametrize("start", ["text_model.", ""])
@pytest.mark.parametrize("projected", [True, False])
def test_a_lone_text_tower_loads(start, projected):
    case = stored.read("clip_quick_gelu")
    weights = {
        name.replace("text_model.", start): value
        for name, value in case.weights.items()
        if name.startswith("text_model.") or (projected and name.startswith("text_projection"))
    }
    model = agreement.imported(HUGGINGFACE, weights, case.config["text_config"])
    assert set(model.model.parts) == {"text"}
    agreement.check_round_trip(model, weights)


def openai_base():
    """Shapes of OpenAI's ViT-B/16 as its archive names them."""
    shapes = {"input_resolution": (), "context_length": (), "vocab_size": ()}
    towers = (("visual.transformer", 768), ("transformer", 512))
    for start, width in towers:
        for layer in range(12):
            block = f"{start}.resblocks.{layer}"
            for name, rows, columns in (
                ("attn.in_proj_", 3 * width, width),
                ("attn.out_proj.", width, width),
                ("mlp.c_fc.", 4 * width, width),
                ("mlp.c_proj.", width, 4 * width),
            ):
                shapes |= {f"{block}.{name}weight": (rows, columns), f"{block}.{name}bias": (rows,)}
            for name in ("ln_1", "ln_2"):
                shapes |= {f"{block}.{name}.weight": (width,), f"{block}.{name}.bias": (width,)}
    for name, width in (("visual.ln_pre", 768), ("visual.ln_post", 768), ("ln_final", 512)):
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return shapes | {
        "visual.class_embedding": (768,),
        "visual.positional_embedding": (197, 768),
        "visual.conv1.weight": (768, 3, 16, 16),
        "visual.proj": (768, 512),
        "token_embedding.weight": (49408, 512),
        "positional_embedding": (77, 512),
        "text_projection": (512, 512),
        "logit_scale": (),
    }


def test_openais_bare_names_say_all_that_is_needed():
    model = families.recognise(openai_base()).model(openai_base(), {})
    sizes = {name.partition("/")[0]: 0 for name in agreement.shapes_of(model)}
    for path, (shape, _) in agreement.shapes_of(model).items():
        sizes[path.partition("/")[0]] += int(np.prod(shape))
    assert sizes == BASE_16
    image = model.settings["image"]["vit"]
    words = model.settings["text"]["text"]["transformer"]
    assert (image["image_size"], image["transformer"]["heads"], words["heads"]) == (224, 12, 8)
    assert image["transformer"]["activation"] == words["activation"] == "quick_gelu"
    assert model.settings["text"]["eot_id"] == 49407
    assert model.preprocessing["resize"] == "shortest"
    entries = OPENAI.entries(model.settings)
    ours = agreement.shapes_of(model)
    read = {name for e in entries for row in e.names(ours[e.ours][0]) for name in row}
    assert read | set(OPENAI.ignored) >= set(openai_base())


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({"quick_gelu": False}, "gelu"),
        ({"quick_gelu": True}, "quick_gelu"),
        ({"model_cfg": {"vision_cfg": {"layers": 12}}}, "gelu"),
        ({"model_cfg": {"vision_cfg": {"act_kwargs": {"approximate": "tanh"}}}}, "gelu_tanh"),
    ],
)
def test_open_clips_config_says_the_activation(config, activation):
    settings = OPENAI.model(openai_base(), config).settings
    assert settings["image"]["vit"]["transformer"]["activation"] == activation


def test_wide_heads_are_known_without_a_config():
    wide = {**openai_base(), "visual.transformer.resblocks.0.mlp.c_fc.weight": (5120, 1280)}
    stack = OPENAI.model(wide, {}).settings["image"]["vit"]["transformer"]
    assert stack["heads"] == 16


@pytest.mark.parametrize(
    ("changes", "config", "word"),
    [
        ({"visual.layer1.0.conv1.weight": (64, 64, 1, 1)}, {}, "ResNet"),
        ({"visual.transformer.resblocks.0.ls_1.gamma": (768,)}, {}, "layer scale"),
        ({"visual.positional_embedding": (200, 768)}, {}, "199"),
        ({}, {"text_cfg": {"pool_type": "first"}}, "'first'"),
        ({}, {"vision_cfg": {"pool_type": "avg"}}, "'avg'"),
    ],
)
def test_what_cannot_be_held_is_said(changes, config, word):
    with pytest.raises(UserError, match=word):
        OPENAI.model(openai_base() | changes, config)


def test_a_legacy_end_token_is_the_largest_id():
    case = stored.read("clip_quick_gelu")
    found = {}
    for end in (2, 7):
        case.config["text_config"]["eos_token_id"] = end
        model = HUGGINGFACE.model(shapes(case.weights), case.config)
        found[end] = model.settings["text"]["eot_id"]
    assert found == {2: 39, 7: 7}


@pytest.mark.parametrize("changes", [{"pool": "end"}, {"pool": "last"}, {"causal": False}])
def test_clipmodel_is_not_given_what_it_cannot_compute(changes):
    case = stored.read("clip_quick_gelu")
    settings = HUGGINGFACE.model(shapes(case.weights), case.config).settings
    with pytest.raises(UserError, match="CLIPModel"):
        HUGGINGFACE.config(settings | {"text": settings["text"] | changes})


@pytest.mark.parametrize("name", ["clip_quick_gelu", "clip_open_clip"])
def test_either_layout_can_be_written_as_the_other(name):
    case = stored.read(name)
    family, other = (HUGGINGFACE, OPENAI) if name == "clip_quick_gelu" else (OPENAI, HUGGINGFACE)
    model = agreement.imported(family, case.weights, case.config)
    settings = model.model.settings | {"names": {}}
    weights = names.dump(other.entries(settings), model.arrays)
    again = agreement.imported(other, weights, other.config(settings))
    for path, value in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[path], value)
    assert again.model.settings["image"]["vit"] == model.model.settings["image"]["vit"]
    assert parts("clip", again.model.settings).keys() == model.model.parts.keys()
