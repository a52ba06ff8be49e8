"""Exports of runs that learned from other people's weights: tokenizers, and what is refused."""

import json

import folders
import numpy as np
import pytest
import tiny_runs
from tokenizers import Tokenizer

import rsvl_jax
from configs import graft as graft_recipe
from flavars_jax.objective import FlavarsObjective
from graft_jax.objective import GraftObjective
from rsvl_jax.data.tokenizer_files import open_tokenizer
from rsvl_jax.errors import UserError
from rsvl_jax.weights import exports, exports_tokenizer

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
TEXTS = ["abc", "Bad Hop, 50%", "", "CAF\u00c9  \u4f60\u597d \t x", "word " * 300]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return open_tokenizer(str(folders.bert(tmp_path_factory.mktemp("bert"))))


@pytest.fixture(scope="module")
def flavars(words, tmp_path_factory):
    """A run with the towers of CLIP and BERT, and BERT's tokenizer."""
    config = tiny_runs.flavars_config(words.vocab_size, "clip")
    config.model.image.stem_norm = True
    config.model.text.norm = "post"
    folder = tmp_path_factory.mktemp("flavars")
    tiny_runs.save(folder, config, FlavarsObjective(config), words.model)
    return str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return str(folders.clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def graft(clip, tmp_path_factory):
    """A run whose teacher is CLIP in a folder of transformers."""
    config = graft_recipe.get_config()
    config.model.image.update(size=16, patch=8, width=20, depth=2, heads=4, mlp_dim=28)
    config.model.update(embed_dim=12, activation="quick_gelu")
    config.init_from.teacher = clip
    with config.unlocked():
        del config.seeds, config.teacher
    folder = tmp_path_factory.mktemp("graft")
    tiny_runs.save(folder / "seed0", config, GraftObjective(config))
    return str(folder)


def test_flava_is_not_given_what_it_would_compute_otherwise(flavars, tmp_path):
    told = "model.image.stem_norm=True and model.text.norm='post', it would compute otherwise"
    with pytest.raises(UserError, match=told):
        exports.export(flavars, str(tmp_path / "out"), "huggingface")
    assert not (tmp_path / "out").exists()


def test_a_plain_export_keeps_somebodys_tokenizer(flavars, words, tmp_path):
    out = str(tmp_path / "out")
    exports.export(flavars, out, "safetensors")
    assert open_tokenizer(out).encode(TEXTS[1], 12)[0].tolist() == (
        words.encode(TEXTS[1], 12)[0].tolist()
    )
    ours, theirs = rsvl_jax.load(flavars), rsvl_jax.load(out)
    np.testing.assert_array_equal(theirs.embed_images(IMAGES), ours.embed_images(IMAGES))
    np.testing.assert_array_equal(theirs.embed_texts(TEXTS), ours.embed_texts(TEXTS))


def test_somebodys_tokenizer_is_written_whole(words):
    files = exports_tokenizer.files(words.model, 12)
    theirs = Tokenizer.from_str(files["tokenizer.json"].decode())
    for text in TEXTS:
        ids, mask = words.encode(text, 2000)
        assert theirs.encode(text).ids == ids[mask].tolist(), text
    said = json.loads(files["tokenizer_config.json"])
    roles = {role: said[f"{role}_token"] for role in ("pad", "cls", "sep", "mask")}
    assert roles == {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    assert said["model_max_length"] == 12


@pytest.mark.parametrize("form", exports.FORMATS)
def test_a_student_of_somebodys_clip_keeps_its_texts(graft, clip, form, tmp_path):
    out = str(tmp_path / "out")
    exports.export(graft, out, form)
    taught, ours, again = (rsvl_jax.load(path) for path in (clip, graft, out))
    expected = taught.embed_texts(TEXTS)
    np.testing.assert_array_equal(ours.embed_texts(TEXTS), expected)
    np.testing.assert_allclose(again.embed_texts(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(again.embed_images(IMAGES), ours.embed_images(IMAGES), atol=1e-6)
    if form == "huggingface":
        with open(f"{out}/config.json") as file:
            assert json.load(file)["text_config"]["eos_token_id"] == 39
