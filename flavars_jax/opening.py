"""A FLAVARS run as a model to use, without its data."""

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from flavars_jax import captions
from flavars_jax.objective import FlavarsObjective
from flavars_jax.settings import Settings, from_config
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import loop, saved
from rsvl_jax.training.checkpoint import Metadata
from rsvl_jax.weights import exports_tokenizer, kinds, runs, trees
from rsvl_jax.weights.family import Json, Model
from rsvl_jax.weights.methods import Opened
from rsvl_jax.weights.sources import Arrays

KIND = "flavars"


def open_run(path: str) -> Opened | None:
    """The newest whole checkpoint of a work directory; None where it is no run of FLAVARS.

    Raises UserError where there is no whole checkpoint.
    """
    if not runs.has_checkpoints(path):
        return None
    found = saved.metadata(path)
    if "mim_design" not in found["config"]["objective"]:
        return None
    run = runs.read(path)
    tokenizer = run.assets.get(captions.FILE, b"")
    return Opened(
        model=model(from_config(ConfigDict(found["config"])), tokenizer),
        arrays=run.arrays,
        tokenizer=tokenizer,
        config=found["config"],
        manifest=found["manifest"],
        step=run.step,
        folder=path,
        revision=found["code_revision"],
        untrained=partial(_untrained, found, run.arrays),
    )


def _untrained(found: Metadata, trained: Arrays) -> dict[str, np.ndarray]:
    """The arrays before the first step, given no weights: as `experiment` has its references."""
    config = ConfigDict(found["config"])
    words = {path: array for path, array in trained.items() if trees.below(path, "tokenizer")}
    objective = FlavarsObjective(config, codebook=trees.nested(words).get("tokenizer"))
    mesh = make_mesh(devices=jax.local_devices()[:1])
    start = loop.initial_state(
        config=config, objective=objective, manifest=found["manifest"], mesh=mesh
    )
    return jax.device_get(trees.flat(start.params) | trees.flat(start.frozen))


def model(settings: Settings, tokenizer: bytes = b"") -> Model:
    """Towers and projections of a run with these settings, and this tokenizer."""
    s = settings
    described = _settings(s)
    preprocessing: Json = {}
    if "image" in described:
        preprocessing = {
            "image_size": s.image.image_size,
            "mean": list(s.mean),
            "std": list(s.std),
            "resize": "square",
            "crop": "none",
            "interpolation": "linear",
        }
    words = {"kind": exports_tokenizer.kind(tokenizer), "length": s.text.max_length}
    return Model(
        KIND,
        described,
        kinds.parts(KIND, described),
        preprocessing,
        words if "text" in described else {},
    )


def _settings(s: Settings) -> Json:
    """See `weights.kinds.flavars`; the parts as `model.FlavarsModel` has them."""
    masks_images = "mim" in s.on or s.fuses_masked
    found: Json = {"image_pooling": s.image_pooling, "contrasts": _contrasts(s)}
    if masks_images or s.sees_clean_images:
        found["image"] = _fields(replace(s.image, mask_token=masks_images and not s.mae))
    if "mlm" in s.on or s.fuses_masked or s.sees_clean_texts:
        found["text"] = _fields(s.text)
    if s.on & {"image_location", "text_location"}:
        found["location"] = _fields(s.location)
    if s.fuses_masked or s.hard_itm:
        found["fusion"] = _fields(s.fusion)
    return found


def _contrasts(s: Settings) -> Json:
    known = {
        "image_text": {"towers": ["image", "text"], "dim": s.embed_dim},
        "image_location": {"towers": ["image"], "dim": s.location.dim},
        "text_location": {"towers": ["text"], "dim": s.location.dim},
    }
    return {name: each for name, each in known.items() if name in s.on}


def _fields(config: Any) -> Json:
    """Fields of a dataclass and of those in it, tuples as JSON has them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
    }
