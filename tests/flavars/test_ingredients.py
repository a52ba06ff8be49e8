"""Data sets of a run by its config: parts of a mixture, what is their own, what is refused."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from tiny import QUICK

from configs.flavars import get_config
from flavars_jax import ingredients, terms
from flavars_jax import inputs as inputs_of
from flavars_jax.inputs import Inputs
from flavars_jax.settings import from_config
from rsvl_jax.data.mixtures import Mixture
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import resume

MINI = "earth_tiles/mini"
DARK = {"mean": (0.1, 0.1, 0.1), "std": (0.05, 0.05, 0.1)}
THREE = (
    (MINI, 0.5),
    (MINI, 0.3, {"crop_scale": (0.1, 0.2), "captions": "first"} | DARK),
    (MINI, 1),
)


def mixed(directory, mixture=THREE, **data):
    config = get_config("clip")
    config.data.update(name="mixture", dir=directory, batch_size=32, mixture=mixture, **data)
    return config


@pytest.fixture(scope="module")
def inputs(mini_earth_tiles):
    return Inputs.open(mixed(mini_earth_tiles))


def host_batch(inputs, config):
    mesh = make_mesh(devices=jax.devices()[:1])
    batches = inputs.batches(config, from_config(config), mesh, 0)
    batch = next(batches)
    batches.close()
    return jax.device_get(batch)["paired"]


def test_the_manifest_holds_every_part(inputs):
    assert [inputs.manifest["mixture"][n]["weight"] for n in "012"] == [0.5, 0.3, 1.0]
    assert {part["name"] for part in inputs.manifest["mixture"].values()} == {MINI}
    assert inputs.manifest["splits"]["train"] == 3 * inputs.scored["splits"]["train"]
    assert inputs.scored["name"] == MINI and len(inputs.split("test")) == 60
    assert isinstance(inputs.train, Mixture) and len(inputs.train) == 720


def test_another_weight_is_another_run(inputs, mini_earth_tiles):
    def told(inputs, config):
        return {
            "config": resume.as_json(config.to_dict()),
            "manifest": resume.as_json(inputs.manifest),
            "layout": {},
        }

    config = mixed(mini_earth_tiles)
    other = mixed(mini_earth_tiles, ((MINI, 0.6), *THREE[1:]))
    resume.check(told(inputs, config), told(inputs, config), "w")
    with pytest.raises(UserError, match=r"data\.mixture"):
        resume.check(told(inputs, config), told(Inputs.open(other), other), "w")
    same_config = told(Inputs.open(other), config)
    with pytest.raises(UserError, match=r"mixture\.0\.weight \(there 0.5, here 0.6\)"):
        resume.check(told(inputs, config), same_config, "w")


def test_each_part_has_preprocessing_of_its_own(inputs, mini_earth_tiles):
    batch = host_batch(inputs, mixed(mini_earth_tiles))
    alike = mixed(mini_earth_tiles, tuple(part[:2] for part in THREE))
    plain = host_batch(Inputs.open(alike), alike)
    assert "image_mean" not in plain
    own = np.isclose(batch["image_mean"][:, 0], 0.1)
    assert 0 < own.sum() < 16
    assert np.isclose(batch["image_std"][~own, 0], 0.26862954).all()
    # the same draws, in another crop; what is not their own has not changed
    np.testing.assert_array_equal(own, (batch["image"] != plain["image"]).any((1, 2, 3)))
    np.testing.assert_array_equal(batch["text_id"][~own], plain["text_id"][~own])
    np.testing.assert_allclose(batch["lon"], plain["lon"], atol=0.2)  # jittered by 0.1 at most


def test_own_statistics_become_those_of_the_run():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    own_mean, own_std = np.float32([[0.1, 0.2, 0.3], mean]), np.float32([[0.05, 0.1, 0.2], std])
    image = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3) * 10
    batch = {"image": {"image": image, "image_mean": own_mean, "image_std": own_std}}
    prepare = jax.jit(lambda b: terms.prepare(b, mean, std), compiler_options=QUICK)
    found = prepare(batch)["image"]
    assert set(found) == {"image"}
    normalised = (found["image"] - np.float32(mean)) / np.float32(std)
    shape = (2, 1, 1, 3)
    expected = (image / 255 - own_mean.reshape(shape)) / own_std.reshape(shape)
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    np.testing.assert_allclose(found["image"][1], image[1] / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"name": "mixture"}, r"needs data.mixture, written \(\('NAME', WEIGHT\)"),
        ({"name": MINI, "mixture": ((MINI, 1.0),)}, "set it to 'mixture'"),
        ({"name": "mixture", "mixture": (MINI, 0.5)}, "'earth_tiles/mini' is no part"),
        ({"name": "mixture", "mixture": ((MINI, "0.5"),)}, "is no part of a mixture"),
        ({"name": "mixture", "mixture": ((MINI, 1, {"crop": 1}),)}, "'crop' of its own: use crop_"),
        ({"name": "mixture", "mixture": ((MINI, 1, DARK),)}, "set data.mean and data.std"),
    ],
)
def test_mixtures_that_cannot_be_are_refused(data, match):
    config = get_config()
    config.data.update(data)
    with pytest.raises(UserError, match=match):
        ingredients.ingredients(config.data)


def test_values_of_the_wrong_type_are_refused():
    part = ingredients.Ingredient(MINI, 1.0, {"crop_scale": "half"})
    with pytest.raises(UserError, match="'earth_tiles/mini' has crop_scale='half'"):
        part.data(get_config())


@pytest.mark.parametrize(
    ("record", "match"),
    [
        ({"image": b"x", "captions": []}, "the records of 'a' have no captions: leave it out"),
        ({"image": b"", "captions": []}, "have no image and no captions"),
    ],
)
def test_parts_without_what_rows_must_have_are_refused(record, match):
    with pytest.raises(UserError, match=match):
        ingredients._check_fields("a", [record], ("image", "captions"))


def test_rows_of_parts_without_places_are_masked():
    def manifest(located, name="a"):
        has = {} if located is None else {"has": {"train": {"located": located, "captioned": 8}}}
        rest = {"name": name, "version": "1", "fingerprint": "f", "splits": {"train": 10}}
        return rest | has

    parts = [ingredients.Ingredient("a"), ingredients.Ingredient("b")]
    data, settings = get_config().data, from_config(get_config())

    def location(*located):
        mixed = ingredients._mixed(parts, [manifest(count) for count in located])
        return inputs_of._location(data, settings, mixed)

    assert location(None, 0).optional and location(4, 10).optional
    assert not location(None, 10).optional
    with pytest.raises(UserError, match="has no coordinates, which the terms image_location need"):
        location(0, 0)


def test_streams_that_are_off_need_no_data_set_of_their_own():
    config = get_config()
    config.data.streams.image = 1.0
    config.data.unimodal.update(image="a", text="b")
    assert ingredients.unimodal(config.data) == {"image": "a"}


def test_a_config_from_before_mixtures_still_opens(mini_earth_tiles):
    data = ConfigDict({"name": MINI, "streams": {"paired": 1.0}})
    assert ingredients.ingredients(data) == (ingredients.Ingredient(MINI),)
    assert ingredients.unimodal(data) == {}
