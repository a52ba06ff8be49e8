"""Each stored checkpoint is known by its names alone."""

import pytest
import stored

from rsvl_jax.weights import families

FAMILIES = {
    "bert": "bert",
    "dinov2": "vit-huggingface",
    "mae": "vit-huggingface",
    "roberta": "roberta",
    "satclip": "satclip",
    "vit": "vit-huggingface",
}


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_recognised(name):
    shapes = {key: value.shape for key, value in stored.read(name).weights.items()}
    assert families.recognise(shapes).name == FAMILIES[name]


def test_families_asked_for_by_name():
    for name in ("dino", "satmae", "scalemae", "dinov3", "timm-vit", "geoclip"):
        assert families.find(name).name == name
