"""Runs written for others: what stands in the folders, and that it comes back as it was."""

import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import tiny_runs
import yaml
from safetensors.numpy import load_file
from tokenizers import Tokenizer

import rsvl_jax
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card
from rsvl_jax.evaluation.card import Card, Provenance
from rsvl_jax.weights import exports, exports_tokenizer, imports, methods

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
TEXTS = ["a satellite photo of desert.", "Open water", ""]
HARD = [
    "",
    "   ",
    "CAFÉ  naïve \t São\nPaulo",
    "ﬁeld Ａｂｃ １２ km² Ⅳ ½",
    "你好 世界 😀🌍 Москва القاهرة",
    "&amp; <b>bold</b> \u200b\ufeff\u00ad\u0085x\u0301",
    "word " * 300,
    "x" * 400,
]


@pytest.fixture(scope="module")
def flavars(tmp_path_factory):
    return tiny_runs.flavars(tmp_path_factory.mktemp("flavars"))[0]


@pytest.fixture(scope="module")
def graft(tmp_path_factory):
    return tiny_runs.graft(tmp_path_factory.mktemp("graft"))


@pytest.fixture(scope="module")
def as_flava(flavars, tmp_path_factory):
    """The run as a Hugging Face folder, and what was told of it."""
    out = str(tmp_path_factory.mktemp("out") / "flava")
    return out, exports.export(flavars, out, "huggingface")


def content(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return json.load(file) if name.endswith(".json") else file.read()


def test_a_flavars_run_as_flava(as_flava):
    out, told = as_flava
    assert sorted(os.listdir(out)) == [
        "README.md",
        "beside.safetensors",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ]
    config = content(out, "config.json")
    assert config["architectures"] == ["FlavaForPreTraining"]
    assert config["image_config"]["image_size"] == tiny_runs.SIZE
    assert config["text_config"]["max_position_embeddings"] == tiny_runs.LENGTH
    assert config["image_pooling"] == "mean"
    names = load_file(f"{out}/model.safetensors")
    assert {"flava.image_projection.weight", "flava.logit_scale", "mim_head.decoder.weight"} <= set(
        names
    )
    beside = set(load_file(f"{out}/beside.safetensors"))
    assert {"location/siren/out/kernel", "image_location/image/kernel", "tokenizer/centroids"} <= (
        beside
    )
    assert "beside.safetensors" in "\n".join(told)
    processor = content(out, "preprocessor_config.json")
    assert (processor["size"], processor["do_center_crop"]) == ({"height": 16, "width": 16}, False)
    np.testing.assert_allclose(processor["image_mean"], (0.48145466, 0.4578275, 0.40821073))


def test_the_card_says_what_the_hub_asks(as_flava):
    text = content(as_flava[0], "README.md")
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "transformers"
    assert front["pipeline_tag"] == "zero-shot-image-classification"
    assert front["license"] == "other" and "remote-sensing" in front["tags"]
    assert "toy 1.0.0 (records: train 64; fingerprint abc)" in text
    assert "steps 480; batch 8; optimizer adamw" in text
    assert "image_text 2.0" in text and "text_location" not in text
    assert "tokens[:, 1:].mean(dim=1)" in text and "MEAN of its patches" in text
    assert "None were written for this checkpoint" in text


def test_the_card_of_class_tokens_pools_them(tmp_path):
    run = tiny_runs.flavars(tmp_path, image_pooling="cls")[0]
    exports.export(run, str(tmp_path / "out"), "huggingface")
    text = content(tmp_path / "out", "README.md")
    assert "model.image_projection(tokens[:, 0])" in text and "MEAN" not in text


def test_scores_of_the_checkpoint_stand_in_the_card(flavars, tmp_path):
    mine = Card(
        task="zeroshot",
        metric="accuracy",
        title="zero-shot land cover",
        value=61.5,
        chance=9.0,
        dataset="toy 1.0.0",
        split="test",
        protocol={"prompts": "seven of them"},
        provenance=Provenance(step=tiny_runs.STEP),
    )
    other = replace(mine, metric="recall", value=12.25, provenance=Provenance(step=99))
    path = os.path.join(flavars, "scores.json")
    card.write(path, [mine, other])
    try:
        exports.export(flavars, str(tmp_path / "out"), "huggingface")
    finally:
        os.unlink(path)
    text = content(tmp_path / "out", "README.md")
    assert "| zero-shot land cover | accuracy (%) | 61.5 | 9.0 |" in text
    assert "- zeroshot/accuracy: data: toy 1.0.0; split: test; prompts: seven of them" in text
    assert "12.2" not in text


def test_flava_comes_back_bit_by_bit_and_embeds_the_same(as_flava, flavars):
    run = methods.open_run(flavars)
    again = imports.load(as_flava[0]).stored
    shared = [name for name in run.arrays if name in again.arrays]
    assert set(again.arrays) == set(shared) and len(shared) > 80
    for name in shared:
        assert again.arrays[name].tobytes() == run.arrays[name].tobytes(), name
    ours, theirs = rsvl_jax.load(flavars), rsvl_jax.load(as_flava[0])
    for call in (lambda m: m.embed_images(IMAGES), lambda m: m.embed_texts([*TEXTS, *HARD])):
        np.testing.assert_allclose(call(theirs), call(ours), atol=1e-6)


def test_flava_out_and_in_and_out_again_is_the_same_files(as_flava, tmp_path):
    out = str(tmp_path / "again")
    exports.export(as_flava[0], out, "huggingface")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer.model"):
        with (
            open(os.path.join(out, name), "rb") as new,
            open(os.path.join(as_flava[0], name), "rb") as old,
        ):
            assert new.read() == old.read(), name


def test_the_tokenizer_gives_the_same_ids(tmp_path):
    words = tiny_runs.tokenizer(tmp_path)
    files = exports_tokenizer.files(words.model, 12)
    theirs = Tokenizer.from_str(files["tokenizer.json"].decode())
    rng = np.random.default_rng(0)
    letters = [chr(code) for code in (*range(32, 0x250), *range(0x4E00, 0x4E20))]
    drawn = ["".join(rng.choice(letters, rng.integers(1, 30))) for _ in range(300)]
    for text in [*HARD, *TEXTS, *tiny_runs.CAPTIONS, *drawn]:
        ids, mask = words.encode(text, 2000)
        assert theirs.encode(text).ids == ids[mask].tolist(), text
    assert json.loads(files["tokenizer_config.json"])["model_max_length"] == 12


def test_a_run_of_images_alone_as_a_vit(tmp_path):
    run = tiny_runs.flavars(tmp_path, "mae")[0]
    out = str(tmp_path / "out")
    exports.export(run, out, "huggingface")
    assert content(out, "config.json")["architectures"] == ["ViTModel"]
    # Computed positions are written out.
    ours, theirs = rsvl_jax.load(run), rsvl_jax.load(out)
    options = {"space": "features", "normalize": False}
    np.testing.assert_allclose(
        theirs.patch_embeddings(IMAGES, **options),
        ours.patch_embeddings(IMAGES, **options),
        atol=1e-5,
    )


def test_parts_that_a_run_never_trained_are_named(tmp_path):
    run = tiny_runs.flavars(tmp_path, "clip")[0]
    told = exports.export(run, str(tmp_path / "out"), "huggingface")
    assert "never trained here" in told[-1] and "fusion/class_token" in told[-1]
    assert "The run never trained fusion/" in content(tmp_path / "out", "README.md")
    names = load_file(tmp_path / "out" / "model.safetensors")
    assert not any("multimodal" in name for name in names)


def test_runs_of_one_kind_of_input_have_no_flava(tmp_path):
    run = tiny_runs.flavars(tmp_path, "satclip")[0]
    with pytest.raises(UserError, match="'open_clip' has no layout for a model of kind 'vit'"):
        exports.export(run, str(tmp_path / "out"), "open_clip")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["huggingface", "open_clip"])
def test_a_graft_run_as_clip(graft, form, tmp_path):
    out = str(tmp_path / "out")
    told = exports.export(graft, out, form)
    assert "projector/linear/kernel" in told[-1]
    assert set(load_file(f"{out}/beside.safetensors")) == {
        "projector/linear/kernel",
        "projector/norm/bias",
        "projector/norm/scale",
    }
    ours, theirs = rsvl_jax.load(graft), rsvl_jax.load(out)
    np.testing.assert_allclose(theirs.embed_images(IMAGES), ours.embed_images(IMAGES), atol=1e-6)
    np.testing.assert_allclose(theirs.embed_texts(TEXTS), ours.embed_texts(TEXTS), atol=1e-6)
    student = rsvl_jax.load(os.path.join(graft, "seed0"))
    np.testing.assert_array_equal(student.embed_texts(TEXTS), ours.embed_texts(TEXTS))
    taught = rsvl_jax.load(os.path.join(graft, "teacher"))
    np.testing.assert_array_equal(taught.embed_texts(TEXTS), ours.embed_texts(TEXTS))
    assert np.abs(taught.embed_images(IMAGES) - ours.embed_images(IMAGES)).max() > 0.01


@pytest.mark.parametrize("run", ["flavars", "graft"])
def test_a_plain_export_is_used_as_the_run(run, request, tmp_path):
    path = request.getfixturevalue(run)
    out = str(tmp_path / "out")
    exports.export(path, out, "safetensors")
    text = content(out, "README.md")
    assert re.search(r"\| image/patch_embed/kernel \||\| satellite/vit/patch_embed/kernel \|", text)
    assert ("spherical harmonics" in text) == (run == "flavars")
    assert ("`projector`: norm and linear map" in text) == (run == "graft")
    ours, theirs = rsvl_jax.load(path), rsvl_jax.load(out)
    assert theirs.fingerprint == ours.fingerprint
    np.testing.assert_array_equal(theirs.embed_images(IMAGES), ours.embed_images(IMAGES))
    np.testing.assert_array_equal(theirs.patch_embeddings(IMAGES), ours.patch_embeddings(IMAGES))
    np.testing.assert_array_equal(theirs.embed_texts(TEXTS), ours.embed_texts(TEXTS))


def test_an_export_does_not_overwrite(as_flava, flavars):
    with pytest.raises(UserError, match="is there already"):
        exports.export(flavars, as_flava[0], "safetensors")
