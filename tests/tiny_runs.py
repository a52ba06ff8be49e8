"""Work directories as runs leave them, made without training: tiny models, arrays of chance."""

from dataclasses import replace

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import flavars as recipe
from configs import graft as graft_recipe
from flavars_jax.objective import FlavarsObjective
from graft_jax import teacher
from graft_jax.objective import GraftObjective
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, train_tokenizer
from rsvl_jax.objectives.image_text import ImageTextObjective
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import loop, resume
from rsvl_jax.training.checkpoint import Checkpoints

TOWER = {"width": 16, "depth": 2, "heads": 2, "mlp_dim": 32}
SIZE, PATCH, LENGTH, DIM, PLACES = 16, 8, 12, 8, 12
STEP = 3
MANIFEST = {
    "name": "toy",
    "version": "1.0.0",
    "fingerprint": "abc",
    "splits": {"train": 64},
    "classes": ["desert", "snow and ice", "open water"],
    "prompts": ["a satellite photo of {c}.", "{c} from above"],
}
CAPTIONS = [
    "a satellite photo of desert in the north of Chile.",
    "snow and ice, seen from above",
    "Open water near an island; clouds in the west",
    "a photo of evergreen forest and cropland from above.",
    "Sahara, cafe, 12 km - rivers & lakes (south-east)",
]


def tokenizer(folder):
    path = str(folder / "tokenizer.model")
    train_tokenizer(CAPTIONS * 3, path, 120)
    return SentencePieceTokenizer(path)


def flavars_config(vocab_size, preset="", **objective):
    config = recipe.get_config(preset)
    config.model.image.update(size=SIZE, patch=PATCH, **TOWER)
    config.model.text.update(vocab_size=vocab_size, length=LENGTH, **TOWER)
    config.model.fusion.update(**TOWER)
    config.model.location.update(degree=4, width=16)
    config.model.decoder.update(width=16, depth=1, heads=2)
    config.model.update(embed_dim=DIM, location_dim=PLACES)
    ratio = 0.5
    config.objective.update(codebook_size=24, image_mask_ratio=ratio, **objective)
    config.data.update(batch_size=8)
    return config


def flavars(folder, preset="", **objective):
    """A FLAVARS work directory; returns (path, config, params and frozen as one flat dict)."""
    words = tokenizer(folder)
    config = flavars_config(words.vocab_size, preset, **objective)
    codebook = np.random.default_rng(0).random((24, PATCH * PATCH * 3), np.float32)
    state = save(folder, config, FlavarsObjective(config, codebook=codebook), words.model)
    return str(folder), config, state


def graft(folder):
    """A GRAFT work directory: teacher/ and seed0/."""
    words = tokenizer(folder)
    config = graft_recipe.get_config()
    config.model.image.update(size=SIZE, patch=PATCH, **TOWER)
    config.model.text.update(vocab_size=words.vocab_size, length=LENGTH, **TOWER)
    config.model.update(embed_dim=DIM)
    config.data.update(batch_size=8)
    own = teacher.recipe(config)
    save(folder / "teacher", own, ImageTextObjective(own), words.model, seed=2)
    with config.unlocked():
        del config.seeds, config.teacher
    save(folder / "seed0", config, GraftObjective(config))
    return str(folder)


def save(folder, config: ConfigDict, objective, tokenizer: bytes = b"", seed=1):
    """Writes a checkpoint of the objective's parameters, moved away from their start."""
    mesh = make_mesh(devices=jax.devices()[:1])
    state = loop.initial_state(config=config, objective=objective, manifest=MANIFEST, mesh=mesh)
    state = replace(state, params=moved(state.params, seed))
    metadata = resume.describe(config, MANIFEST, state)
    assets = {"tokenizer.model": tokenizer} if tokenizer else {}
    with Checkpoints(str(folder / "checkpoints")) as checkpoints:
        checkpoints.save(STEP, state, metadata | {"assets": resume.pack(assets)})
        checkpoints.wait()
    return state


def moved(tree, seed=1, by=0.1):
    """Parameters away from their start, where zero biases hide mistakes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + by * rng.standard_normal(x.shape).astype(np.float32), tree)
