"""Which tokenizer a run reads captions with: that of the weights its text tower starts from."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs
from flavars import tiny

from flavars_jax import captions
from flavars_jax.inputs import Inputs
from flavars_jax.objective import FlavarsObjective
from rsvl_jax.data.tokenizer_files import open_tokenizer
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh

sys.path.append(str(Path(__file__).parents[1] / "weights"))
import folders  # noqa: E402

TEXT = "a satellite image of the river"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A folder of BERT with its vocabulary, and one without."""
    root = tmp_path_factory.mktemp("bert")
    folders.bert(root / "whole")
    folders.write(root / "bare", "bert")
    return root


def chosen(workdir, **changes):
    changes = {key.replace("init_from_", "init_from__"): v for key, v in changes.items()}
    return captions.tokenizer(tiny.config(**changes), str(workdir))


def test_a_run_that_starts_from_nothing_has_that_of_its_data(tmp_path):
    assert chosen(tmp_path) is None
    assert chosen(tmp_path, init_from_image="clip/", init_from_location="x.ckpt") is None


@pytest.mark.parametrize("part", ["text", "model"])
@pytest.mark.parametrize("inner", ["", "#text"])
def test_that_of_the_weights(bert, part, inner, tmp_path):
    found = chosen(tmp_path, **{f"init_from_{part}": f"{bert}/whole{inner}"})
    expected = open_tokenizer(f"{bert}/whole").encode(TEXT, 12)
    np.testing.assert_array_equal(found.encode(TEXT, 12), expected)


def test_weights_without_one_are_refused_with_the_ways_out(bert, tmp_path):
    with pytest.raises(UserError, match="no tokenizer.*set data.tokenizer.*'text/word_embed'"):
        chosen(tmp_path, init_from_text=f"{bert}/bare")
    expect = {"init_from_expect": ("text/word_*",)}
    assert chosen(tmp_path, init_from_text=f"{bert}/bare", **expect) is None
    found = chosen(tmp_path, init_from_text=f"{bert}/bare", data__tokenizer=f"{bert}/whole")
    assert found.vocab_size == open_tokenizer(f"{bert}/whole").vocab_size


def test_a_run_that_goes_on_has_that_of_its_checkpoint(tmp_path):
    tiny_runs.flavars(tmp_path)
    words = tiny_runs.tokenizer(tmp_path)
    found = chosen(tmp_path, init_from_text="taken/away")
    np.testing.assert_array_equal(found.encode(TEXT, 12), words.encode(TEXT, 12))
    other = chosen(tmp_path / "new", init_from_model=str(tmp_path))
    assert other.model == words.model
    assert chosen(tmp_path) is None


def test_the_batches_have_its_ids(bert, mini_earth_tiles):
    config = tiny.config(init_from__text=f"{bert}/whole")
    config.data.update(name="earth_tiles/mini", dir=mini_earth_tiles, batch_size=8)
    words = captions.tokenizer(config, "")
    inputs = Inputs.open(config, words)
    config.model.text.vocab_size = inputs.tokenizer.vocab_size
    settings = FlavarsObjective(config, codebook=tiny.codebook()).settings
    batches = inputs.batches(config, settings, make_mesh(devices=jax.devices()[:1]), 0)
    pairs = next(batches)["paired"]
    batches.close()
    ids = np.asarray(pairs["text"])
    assert (ids[:, 0] == words.cls_id).all() and ids.max() < words.vocab_size
    assert (np.asarray(pairs["text_masked"]) == words.mask_id).any()
    said = {words.decode(row) for row in ids}
    records = [inputs.train[row]["captions"] for row in range(len(inputs.train))]
    known = {words.decode(words.encode(c, tiny.LENGTH)[0]) for each in records for c in each}
    assert said <= known
