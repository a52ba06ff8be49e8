"""Embeddings and filled-in images."""

import jax
import numpy as np
import pytest
import tiny

from flavars_jax import inference
from flavars_jax.objective import FlavarsObjective
from rsvl_jax.errors import UserError


def quick(function):
    return jax.jit(function, compiler_options=tiny.QUICK)


def patches(images):
    x = np.asarray(images).reshape(len(images), 4, tiny.PATCH, 4, tiny.PATCH, 3)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(len(images), tiny.N, -1)


def test_embeddings_of_flavars():
    model, variables = tiny.prepared("flavars")
    s, (params, frozen) = tiny.sample(), (variables["params"], variables["frozen"])
    found = quick(model.embed_images)(params, frozen, s["image"])
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == {
        "cls": (16, 16),
        "mean": (16, 16),
        "patches": (16, tiny.N, 16),
        "text_space": (16, 8),
        "text_patches": (16, tiny.N, 8),
        "location_space": (16, 12),
    }
    np.testing.assert_allclose(found["mean"], found["patches"].mean(1), rtol=1e-5, atol=1e-6)
    texts = quick(model.embed_texts)(params, frozen, s["text"], s["text_mask"])
    assert set(texts) == {"text_space"}  # text_location is off
    places = quick(model.embed_locations)(params, frozen, lon=s["lon"], lat=s["lat"])
    units = found["text_space"], found["text_patches"], found["location_space"]
    for unit in (*units, texts["text_space"], places):
        assert unit.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, rtol=1e-5)


def test_presets_have_the_spaces_they_train():
    assert tiny.prepared("flavars")[0].contrasts == ("image_text", "image_location")
    assert tiny.prepared("mae")[0].contrasts == ()
    model, variables = tiny.prepared("satclip")
    with pytest.raises(UserError, match="no encoder of texts"):
        model.embed_texts(variables["params"], variables["frozen"], None, None)
    model, variables = tiny.prepared("clip")
    with pytest.raises(UserError, match="no encoder of locations"):
        model.embed_locations(variables["params"], variables["frozen"], lon=None, lat=None)


@pytest.mark.parametrize("preset", ["flavars", "mae"])
def test_reconstruction_touches_hidden_patches_alone(preset):
    model, variables = tiny.prepared(preset)
    s = tiny.sample()
    params = tiny.moved(variables["params"], by=1.0)
    pictures = quick(model.reconstruct)(params, variables["frozen"], s)
    original, masked, filled = (patches(pictures[k]) for k in ("original", "masked", "filled"))
    np.testing.assert_allclose(pictures["original"], s["image"] / 255, rtol=1e-6)
    hidden = s["mim_mask"]
    if preset == "mae":
        hidden = np.ones((16, tiny.N), bool)
        np.put_along_axis(hidden, s["mae_keep"], False, axis=1)
    assert np.all(masked[hidden] == 0.5)
    for picture in (masked, filled):
        np.testing.assert_array_equal(picture[~hidden], original[~hidden])
    assert filled.min() >= 0 and filled.max() <= 1
    if preset == "flavars":
        distance = np.abs(filled[hidden][:, None] - tiny.codebook()[None]).max(-1)
        assert np.all(distance.min(1) < 1e-6)
        assert len(np.unique(distance.argmin(1))) > 1


@pytest.mark.parametrize("normalised", [True, False])
def test_perfect_predictions_restore_the_image(normalised, monkeypatch):
    """Undoes the normalisation of images and of patches."""
    changes = {"objective__norm_pixels": normalised}
    settings = tiny.objective("mae", **changes).settings
    s = tiny.sample()
    true = patches((s["image"] / 255 - np.array(settings.mean)) / np.array(settings.std))
    if normalised:
        spread = np.sqrt(true.var(-1, ddof=1, keepdims=True) + 1e-6)
        true = (true - true.mean(-1, keepdims=True)) / spread
    monkeypatch.setattr(inference, "_predictions", lambda *_: jax.numpy.asarray(true))
    model = tiny.objective("mae", **changes)
    variables = tiny.prepared("mae")[1]
    pictures = model.reconstruct(variables["params"], variables["frozen"], s)
    np.testing.assert_allclose(pictures["filled"], s["image"] / 255, atol=2e-6)


def test_visual_words_of_dalle_have_no_pixels():
    dalle = {"objective__image_tokenizer": "dalle", "objective__codebook_size": 8192}
    assert not FlavarsObjective(tiny.config("flavars", **dalle)).reconstructs
    assert FlavarsObjective(tiny.config("clip", **dalle)).reconstructs is False
    assert tiny.prepared("mae")[0].reconstructs and tiny.prepared("flavars")[0].reconstructs


def test_nothing_to_fill_in_is_said():
    model, variables = tiny.prepared("clip")
    assert not model.reconstructs
    with pytest.raises(UserError, match="nothing to fill in"):
        model.reconstruct(variables["params"], variables["frozen"], tiny.sample())
