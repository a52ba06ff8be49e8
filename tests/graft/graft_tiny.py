"""A GRAFT small enough to compile in seconds, its teacher, and its batches."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from graft_jax.objective import GraftObjective, GroundTower
from rsvl_jax.objectives.image_text import ImageTextObjective
from rsvl_jax.training.objective import total

TOWER = {"width": 16, "depth": 2, "heads": 2, "mlp_dim": 32}
SIZE, PATCH, B, P, E = 16, 4, 8, 3, 8
# XLA spends most of the time of these tests compiling: optimise less.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def config(**changes):
    """Tiny sizes; changes by dotted key, dots written as `__`."""
    tiny = ConfigDict(
        {
            "model": {
                "image": {"size": SIZE, "patch": PATCH, **TOWER},
                "text": {"vocab_size": 30, "length": 7, **TOWER},
                "embed_dim": E,
                "activation": "quick_gelu",
                "scan": True,
                "remat": "none",
                "attention": "auto",
                "dtype": "float32",
            },
            "objective": {
                "level": "both",
                "weights": {"image_ground": 1.0, "pixel_ground": 1.0},
                "temperature": 0.07,
                "learn_temperature": False,
                "symmetric": False,
                "contrast": "softmax",
                "block_rows": None,
                "mask_overlaps": True,
            },
            "data": {"photos": P, "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.3, 0.2)},
        }
    )
    for key, value in changes.items():
        *sections, leaf = key.split("__")
        section = functools.reduce(lambda node, name: node[name], sections, tiny)
        with section.ignore_type(), section.unlocked():
            section[leaf] = value
    return tiny


@functools.cache
def teacher():
    """An image-text objective of the same sizes, and parameters away from their start."""
    recipe = config()
    recipe.objective = ConfigDict(
        {
            "contrast": "softmax",
            "identical_captions": True,
            "logit_scale_init": 2.6592,
            "logit_scale_max": 4.6052,
        }
    )
    model = ImageTextObjective(recipe)
    return model, moved(init(model)["params"], seed=2)


def ground():
    """The teacher's image tower, to run in the step."""
    model, params = teacher()
    s = model.settings
    return GroundTower(s.clip.vision, params["image"], s.mean, s.std)


def moved(tree, seed=1, by=0.1):
    """Parameters away from their start, where zero biases hide mistakes."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: np.asarray(x + by * rng.standard_normal(np.shape(x)), np.float32), tree
    )


def sample(seed=0):
    """Ragged photos, one tile without any, copies of a photo, overlapping tiles, a tile twice."""
    rng = np.random.default_rng(seed)
    mask = rng.random((B, P)) < 0.6
    mask[2], mask[3] = False, True
    ids = np.arange(B * P, dtype=np.int32).reshape(B, P)
    ids[5, 0], ids[6, 1] = ids[3, 0], ids[3, 2]
    mask[5, 0] = mask[6, 1] = True
    west = np.arange(B) * 0.01 + np.where(np.arange(B) < 4, 179.985, 10)
    footprint = np.stack([west, np.full(B, 40.0), west + 0.0095, np.full(B, 40.01)], axis=1)
    footprint[7] = footprint[5] + 0.004  # overlaps 5 and 6
    footprint[3, [0, 2]] -= 360  # the same place, written the other way: shares no ground with 2
    tiles = np.arange(B, dtype=np.int32)
    tiles[1] = tiles[0]
    photos = rng.standard_normal((B, P, E))
    photos[5, 0], photos[6, 1] = photos[3, 0], photos[3, 2]
    return {
        "image": rng.integers(0, 256, (B, SIZE, SIZE, 3)).astype(np.uint8),
        "tile_id": tiles,
        "footprint": footprint.astype(np.float32),
        "photos": photos.astype(np.float16),
        "photo_mask": mask,
        "photo_id": ids,
        "photo_xy": (SIZE * rng.random((B, P, 2))).astype(np.float32),
    }


def init(model):
    """Fresh variables on the host, quickly compiled."""
    return jax.device_get(jax.jit(model.init, compiler_options=QUICK)(jax.random.key(0)))


@functools.cache
def prepared(**changes):
    """(objective, variables moved from their start), made once; see `config` for the changes."""
    model = GraftObjective(config(**changes))
    return model, moved(init(model)["params"])


def step_of(model):
    """jitted (params, frozen, sample) -> ((loss, terms), gradients), quickly compiled."""

    def loss(params, frozen, sample):
        terms = model.terms(params, frozen, {"pairs": sample}, jax.random.key(7))
        return total(terms, model.weights, jnp.zeros((), jnp.int32))[0], terms

    return jax.jit(jax.value_and_grad(loss, has_aux=True), compiler_options=QUICK)


def means(terms):
    return {name: float(value) / max(float(count), 1) for name, (value, count) in terms.items()}
