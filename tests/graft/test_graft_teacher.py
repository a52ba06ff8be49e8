"""A teacher from weights of other people: CLIP in a folder of Hugging Face."""

import sys
from pathlib import Path

import graft_tiny as tiny
import numpy as np
import pytest
from safetensors.numpy import save_file

from graft_jax.experiment import _check_start
from graft_jax.teacher import Teacher
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh

sys.path.append(str(Path(__file__).parents[1] / "weights"))
import folders  # noqa: E402
import stored  # noqa: E402

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@pytest.fixture(scope="module")
def case():
    return stored.read("clip_quick_gelu")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = folders.write(tmp_path_factory.mktemp("clip"), "clip_quick_gelu")
    return Teacher.of_source(str(folder), make_mesh())


def test_it_embeds_as_the_original(case, teacher):
    pixels = case.inputs["pixel_values"].transpose(0, 2, 3, 1) * STD + MEAN
    images = teacher.objective.embed_images(teacher.params, {}, pixels.astype(np.float32))
    np.testing.assert_allclose(images["image"], case.outputs["image_embeds"], atol=2e-6)
    words = case.inputs["input_ids"].astype(np.int32), case.inputs["attention_mask"].astype(bool)
    texts = teacher.objective.embed_texts(teacher.params, {}, *words)
    np.testing.assert_allclose(texts, case.outputs["text_embeds"], atol=2e-6)
    assert teacher.model().images(pixels.astype(np.float32))["pixels"].shape == (4, 4, 12)


def test_it_has_no_tokenizer_that_it_could_read(teacher, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # open_clip's, say
    with pytest.raises(UserError, match="cannot read texts.*give the folder of CLIP's vocabulary"):
        teacher.model().texts(["a field"])


def test_it_reads_texts_by_the_vocabulary_beside_its_weights(tmp_path):
    teacher = Teacher.of_source(str(folders.clip(tmp_path)), make_mesh())
    ids = np.array([[38, 0, 1, 20, 39, 0, 0, 0, 0]], np.int32)  # ab c
    expected = teacher.objective.embed_texts(teacher.params, {}, ids, np.arange(9)[None] < 5)
    np.testing.assert_allclose(teacher.model().texts(["abc"]), expected, atol=1e-6)


def test_a_student_that_computes_otherwise_is_refused(case, teacher):
    tower = teacher.ground_tower()
    config = tiny.config(data__mean=MEAN, data__std=STD, init_from={})
    _check_start(config, tower)
    config.model.activation = "gelu"
    with pytest.raises(UserError, match="model.activation is 'gelu' here, .* 'quick_gelu'"):
        _check_start(config, tower)
    with pytest.raises(UserError, match="data.mean is"):
        _check_start(tiny.config(init_from={}), tower)


def test_what_is_no_clip_is_refused(tmp_path):
    start = "model.location.nnet"
    values = {f"{start}.layers.0.weight": np.ones((4, 4)), f"{start}.layers.0.bias": np.ones(4)}
    values |= {
        f"{start}.last_layer.weight": np.ones((3, 4)),
        f"{start}.last_layer.bias": np.ones(3),
    }
    save_file({k: v.astype(np.float32) for k, v in values.items()}, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="kind 'location': a teacher is a CLIP"):
        Teacher.of_source(str(tmp_path / "x.safetensors"), make_mesh())
