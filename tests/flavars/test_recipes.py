"""Every preset that ships is a valid recipe."""

import jax
import pytest

from configs.flavars import PRESETS, get_config
from flavars_jax.inputs import Inputs, stream_sizes
from flavars_jax.objective import FlavarsObjective
from flavars_jax.settings import TERMS, from_config
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training.plan import make_plan

OFF = {"text_location", "phrase_region"}
EXPECTED = {
    "": set(TERMS) - OFF,
    "flavars": set(TERMS) - OFF,
    "flava": {"mim", "mlm", "mmm_image", "mmm_text", "itm", "image_text"},
    "clip": {"image_text"},
    "mae": {"mim"},
    "satclip": {"image_location"},
    "base": set(TERMS) - OFF,
    "large": set(TERMS) - OFF,
}


def test_no_preset_is_forgotten():
    assert set(EXPECTED) == {"", *PRESETS}


@pytest.mark.parametrize("size", ["", "base"])
@pytest.mark.parametrize("preset", EXPECTED)
def test_presets_are_valid_and_train_their_terms(preset, size):
    config = get_config(f"{size},{preset}")
    assert from_config(config).on == EXPECTED[preset]
    assert make_plan(config, {"splits": {"train": 5851}})[0].total > 0
    assert sum(stream_sizes(config).values()) == config.data.batch_size


@pytest.mark.parametrize("preset", sorted(EXPECTED.keys() - {"base", "large"}))
def test_the_pipeline_brings_what_the_terms_of_a_preset_ask_for(preset, mini_earth_tiles):
    config = get_config(preset)
    config.data.update(name="earth_tiles/mini", dir=mini_earth_tiles, batch_size=8)
    inputs, settings = Inputs.open(config), from_config(config)
    batches = inputs.batches(config, settings, make_mesh(devices=jax.devices()[:1]), 0)
    batch = next(batches)
    batches.close()
    objective = FlavarsObjective(config, codebook=inputs.codebook(settings))
    start, key = jax.eval_shape(objective.init, jax.random.key(0)), jax.random.key(1)
    found = jax.eval_shape(objective.terms, start["params"], start["frozen"], batch, key)
    assert set(found) == EXPECTED[preset]


def test_streams_that_do_not_split_into_whole_rows_are_refused():
    config = get_config()
    config.data.streams.image = 0.3
    with pytest.raises(UserError, match="whole rows"):
        stream_sizes(config)
