"""Every preset that ships is a valid recipe, and says what the paper says."""

import pytest

from configs.graft import LEVELS, PRESETS, get_config
from graft_jax import settings, teacher
from graft_jax.inputs import transform
from rsvl_jax.errors import UserError
from rsvl_jax.objectives import image_text
from rsvl_jax.training.plan import make_plan

TERMS = {
    "image": {"image_ground"},
    "pixel": {"pixel_ground"},
    "both": {"image_ground", "pixel_ground"},
}
PAPER = ("naip", "sentinel2")
SIZES = ("large", "giant")


def manifest(config):
    return {"splits": {"train": 10 * config.data.batch_size}}


def test_no_preset_is_forgotten():
    assert set(PRESETS) == {*PAPER, *SIZES, *LEVELS, *(f"level={level}" for level in LEVELS)}
    assert set(LEVELS) == set(TERMS)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", ["", *PAPER, *(f"naip,{size}" for size in SIZES)])
def test_presets_are_valid_in_any_order(size, level):
    config = get_config(f"{size},{level}")
    assert config == get_config(f"level={level},{size}") or size
    assert set(settings.from_config(config).weights) == TERMS[level]
    assert make_plan(config, manifest(config))[0].total > 0
    assert transform(config).photos == config.data.photos
    own = teacher.recipe(config)
    assert image_text.from_config(own).clip.vision == settings.from_config(config).satellite
    assert make_plan(own, manifest(own))[0].total > 0


@pytest.mark.parametrize("sensor", PAPER)
@pytest.mark.parametrize(("level", "rate"), [("image", 1e-5), ("pixel", 5e-5)])
def test_the_four_models_of_the_paper(sensor, level, rate):
    config = get_config(f"{sensor},level={level}")
    assert config.optimizer.learning_rate == rate
    assert config.optimizer.weight_decay == 1e-2
    assert make_plan(config, manifest(config))[0].total == 100  # ten epochs of ten steps
    found = settings.from_config(config)
    assert found.temperature == 0.07 and not found.learn_temperature
    assert found.photos == 25
    assert found.satellite.vit.image_size == 224
    assert found.satellite.vit.transformer.activation == "quick_gelu"
    assert config.data.name == f"ground_satellite_pairs/{sensor}"


def test_the_embedded_recipe_keeps_its_rate():
    assert get_config("pixel").optimizer.learning_rate == get_config().optimizer.learning_rate


def test_an_unknown_preset():
    with pytest.raises(UserError, match="unknown preset 'level=patch'.*level=pixel"):
        get_config("naip,level=patch")
