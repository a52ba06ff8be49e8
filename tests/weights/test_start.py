"""A FLAVARS run from CLIP, BERT and SatCLIP starts at the loss of their stored outputs."""

import folders
import numpy as np
import pytest
import starts
import stored
import torch_files

from configs import flavars
from flavars_jax.objective import FlavarsObjective
from rsvl_jax.errors import UserError

ROWS = 2
MANIFEST = {"name": "toy", "version": "1", "fingerprint": "abc", "splits": {"train": 8}}
SCALE = 2.6592


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Folders of transformers and a Lightning checkpoint, with the weights of stored cases."""
    root = tmp_path_factory.mktemp("sources")
    folders.clip(root / "clip")
    folders.write(root / "bert", "bert")
    torch_files.state_dict(root / "satclip.ckpt", stored.read("satclip").weights)
    return root


def recipe(root, **image):
    """The sizes of the stored cases, and the switches of those towers."""
    config = flavars.get_config("clip")
    config.objective.weights.image_location = 1.0
    config.objective.image_pooling = "cls"
    tower = {"size": 16, "patch": 8, "width": 20, "depth": 2, "heads": 4, "mlp_dim": 28}
    own = {"activation": "quick_gelu", "ln_eps": 1e-5, "stem_norm": True} | image
    config.model.image.update(**tower, **own)
    config.model.text.update(vocab_size=40, length=7, width=16, depth=2, heads=2, mlp_dim=24)
    config.model.text.update(norm="post", ln_eps=1e-12)
    config.model.location.update(degree=4, width=12, depth=2)
    config.model.update(embed_dim=8, location_dim=5)
    names = {"image": "clip", "text": "bert", "location": "satclip.ckpt"}
    config.init_from.update({part: str(root / name) for part, name in names.items()})
    config.data.batch_size = ROWS
    return config


def batch(config, clip, bert, places):
    """The inputs of the cases as a batch of pairs."""
    mean, std = (np.array(config.data[name]) for name in ("mean", "std"))
    pixels = clip.inputs["pixel_values"][:ROWS].transpose(0, 2, 3, 1) * std + mean
    return {
        "paired": {
            "image": pixels.astype(np.float32),
            "text": bert.inputs["ids"].astype(np.int32),
            "text_mask": bert.inputs["mask"] == 1,
            "text_id": np.arange(ROWS, dtype=np.int32),
            "itm_label": np.ones(ROWS, np.int32),
            "lon": places.inputs["lon"][:ROWS],
            "lat": places.inputs["lat"][:ROWS],
        }
    }


def class_tokens(clip):
    """Of CLIP's image tower after its last norm, float64."""
    x = clip.outputs["image_hidden"][:ROWS, 0].astype(np.float64)
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    norm = (clip.weights[f"vision_model.post_layernorm.{name}"] for name in ("weight", "bias"))
    scale, bias = norm
    return x * scale + bias


def test_the_first_loss_is_that_of_the_originals(sources):
    clip, bert, places = (stored.read(name) for name in ("clip_quick_gelu", "bert", "satclip"))
    config = recipe(sources)
    objective = FlavarsObjective(config)
    state, terms = starts.first(config, objective, MANIFEST, batch(config, clip, bert, places))
    image = class_tokens(clip)
    text = bert.outputs["hidden"][[0, bert.inputs["mask"][0].sum()]]
    a, b = (
        starts.projected(state, "image_text", tower, x)
        for tower, x in (("image", image), ("text", text))
    )
    here = starts.projected(state, "image_location", "image", image)
    expected = {
        "image_text": starts.info_nce(a, b, SCALE),
        "image_location": starts.info_nce(here, places.outputs["embedding"][:ROWS], SCALE),
    }
    assert set(terms) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=2e-5, err_msg=name)


def test_a_tower_that_is_run_otherwise_is_refused_before_it_starts(sources):
    config = recipe(sources, activation="gelu")
    with pytest.raises(UserError, match="model.image.activation is 'gelu' here"):
        starts.first(config, FlavarsObjective(config), MANIFEST, {})
