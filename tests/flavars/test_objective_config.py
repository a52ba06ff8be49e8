"""Configs that cannot be are refused in one line that quotes what is wrong."""

import jax
import numpy as np
import pytest
import tiny

from configs import flavars
from flavars_jax.objective import FlavarsObjective
from flavars_jax.settings import from_config
from rsvl_jax.errors import UserError

PHRASES = {"objective__weights__phrase_region": 1.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model__image__size": 18}, "18 is not divisible by patch size 4"),
        ({"model__image__width": 15}, "15 is not divisible by heads 2"),
        ({"model__text__heads": 0}, "model.text.heads=0"),
        ({"model__text__vocab_size": "many"}, "model.text.vocab_size='many'"),
        ({"model__fusion__depth": 1.5}, "model.fusion.depth=1.5"),
        ({"model__location_dim": 13}, "model.location_dim=13"),
        ({"model__location__kind": "table"}, "'table'"),
        ({"model__dtype": "float16"}, "'float16'"),
        ({"objective__mim_design": "pixels"}, "objective.mim_design='pixels'"),
        ({"objective__itm_negatives": "soft"}, "objective.itm_negatives='soft'"),
        ({"objective__image_tokenizer": "vq"}, "objective.image_tokenizer='vq'"),
        ({"objective__image_tokenizer": "dalle"}, "8192 codes"),
        ({"objective__image_mask_ratio": 1.5}, "hides 24 of 16 patches"),
        ({"objective__image_mask_ratio": 0.0}, "hides 0 of 16 patches"),
        ({"objective__image_mask_ratio": 0.99}, "hides 16 of 16 patches"),
        ({"objective__weights__mim": -1.0}, "weight of mim is -1.0"),
        ({"objective__weights__mim": {"from": 0.0}}, "weight of mim"),
        ({"objective__weights__mimm": 1.0}, "['mimm']"),
        ({"objective__regions": 0}, "objective.regions=0"),
        ({"objective__phrase_length": 99, **PHRASES}, "phrase_length=99 must lie between 3 and"),
        ({"objective__weights__image_text": 0.0, **PHRASES}, "weights.image_text a weight, too"),
        ({"objective__text_mask_ratio": 1.0}, "objective.text_mask_ratio=1.0"),
        ({"data__streams__paired": 0.0}, "not all zero"),
        ({"data__streams": {"image": 1.0}}, "data.streams.paired"),
        ({"data__std": (0.2, 0.0, 0.2)}, "data.std"),
        ({"data__mean": (0.2, 0.2)}, "data.mean"),
    ],
)
def test_impossible_configs_are_refused(changes, words):
    with pytest.raises(UserError) as error:
        from_config(tiny.config("flavars", **changes))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_to_train_is_refused():
    with pytest.raises(UserError, match="nothing to train"):
        from_config(tiny.config("clip", objective__weights__image_text=0.0))


def test_hard_negatives_need_the_image_text_contrast():
    changes = {"objective__itm_negatives": "hard", "objective__weights__image_text": 0.0}
    with pytest.raises(UserError, match="image_text"):
        from_config(tiny.config("flavars", **changes))


def test_a_codebook_that_does_not_fit_is_refused():
    with pytest.raises(UserError, match="codebook of shape .*23"):
        FlavarsObjective(tiny.config(), codebook=np.zeros((23, 48), np.float32))


def test_a_missing_codebook_is_refused_where_it_is_needed():
    with pytest.raises(UserError, match="no codebook"):
        FlavarsObjective(tiny.config()).init(jax.random.key(0))
    assert FlavarsObjective(tiny.config("clip")).logical_axes()["frozen"] == {}


@pytest.mark.parametrize("preset", ["", "base", *tiny.PRESETS, "base,flava"])
def test_the_recipes_are_possible(preset):
    config = flavars.get_config(preset)
    settings = from_config(config)
    assert settings.image.image_size == config.model.image.size
    assert settings.masked_patches == round(config.objective.image_mask_ratio * settings.patches)
