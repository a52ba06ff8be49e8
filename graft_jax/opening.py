"""A GRAFT run, or one of the runs in it, as a model to use, without its data."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

import jax
import numpy as np
from ml_collections import ConfigDict

from graft_jax.settings import from_config
from graft_jax.teacher import TOKENIZER
from rsvl_jax.data.tokenizer_files import open_tokenizer
from rsvl_jax.errors import UserError
from rsvl_jax.objectives import image_text
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import loop, saved
from rsvl_jax.weights import imports, kinds, runs, trees
from rsvl_jax.weights.family import Json, Model
from rsvl_jax.weights.methods import Opened
from rsvl_jax.weights.sources import Arrays
from rsvl_jax.weights.store import Stored

_STUDENT = "seed"
_TEACHER = "teacher"


def open_run(path: str) -> Opened | None:
    """A work directory (its first student), a student `seed0`, or a `teacher`; None for others.

    A student has the text tower of its teacher. Raises UserError where there is no whole
    checkpoint.
    """
    if not runs.has_checkpoints(path):
        students = [name for name in runs.inner(path) if name.startswith(_STUDENT)]
        return _student(os.path.join(path, students[0])) if students else None
    objective = saved.metadata(path)["config"]["objective"]
    if "level" in objective:
        return _student(path)
    return _pair(path) if "identical_captions" in objective else None


def _student(path: str) -> Opened:
    own = _opened(path)
    found = _teacher(path, own.config)
    if found is None or "text" not in found.model.settings:
        return own
    settings = own.model.settings | {"text": found.model.settings["text"]}
    model = replace(
        own.model,
        settings=settings,
        parts=kinds.parts("graft", settings),
        tokenizer=found.model.tokenizer,
    )
    words = found.arrays.only(name for name in found.arrays if name.startswith("text/"))
    both = Arrays({**own.arrays.tensors, **words.tensors})
    untrained = partial(_untrained, both, found.folder) if found.folder else None
    return replace(own, model=model, arrays=both, tokenizer=found.tokenizer, untrained=untrained)


def _untrained(arrays: Arrays, teacher: str) -> dict[str, np.ndarray]:
    """The arrays with the image tower as the teacher's was before its first step: as
    `experiment` has its references."""
    found = saved.metadata(teacher)
    config, mesh = ConfigDict(found["config"]), make_mesh(devices=jax.local_devices()[:1])
    objective = image_text.ImageTextObjective(config, mesh)
    start = loop.initial_state(
        config=config, objective=objective, manifest=found["manifest"], mesh=mesh
    )
    tower = jax.device_get(start.params["image"])
    projector = {"norm": tower["vit"]["norm"], "linear": tower["projection"]}
    fresh = trees.flat({"satellite": tower, "projector": projector})
    return {**{path: arrays[path] for path in arrays}, **fresh}


@dataclass(frozen=True)
class _Towers:
    """Of the teacher; folder: of its run, "" where there is none."""

    model: Model
    arrays: Arrays
    tokenizer: bytes
    folder: str = ""


def _teacher(path: str, config: Json) -> _Towers | None:
    """The towers of the teacher and its tokenizer, from its run or from weights of CLIP.

    None where they are not there (any more): the student then embeds no texts.
    """
    given = config["init_from"].get("teacher")
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), _TEACHER)
    for folder in (given, beside):
        if isinstance(folder, str) and folder and runs.has_checkpoints(folder):
            towers = _pair(folder)
            return _Towers(towers.model, towers.arrays, towers.tokenizer, folder)
    if not isinstance(given, str) or not os.path.exists(given):
        return None
    stored = imports.load(given).stored
    return _Towers(stored.model, stored.arrays, _tokenizer(stored))


def _tokenizer(stored: Stored) -> bytes:
    try:
        folder = os.path.dirname(next(iter(stored.tokenizer.values()), ""))
        return open_tokenizer(folder, "" if folder else "clip").model
    except UserError:
        return b""


def _opened(path: str) -> Opened:
    """A student without texts."""
    found = saved.metadata(path)
    s = from_config(ConfigDict(found["config"]))
    settings: Json = {"satellite": asdict(s.satellite)}
    if s.learn_temperature:
        settings["scale"] = True
    model = Model(
        "graft",
        settings,
        kinds.parts("graft", settings),
        _preprocessing(s.satellite.vit.image_size, s.mean, s.std),
    )
    # A run of several students is scored in the folder around them.
    student = _of(path, model, os.path.dirname(os.path.abspath(path)))
    return student if s.learn_temperature else replace(student, logit_scale=s.logit_scale)


def _pair(path: str) -> Opened:
    """A teacher: CLIP's two towers."""
    s = image_text.from_config(ConfigDict(saved.metadata(path)["config"]))
    settings: Json = {
        "image": asdict(s.clip.vision),
        "text": asdict(s.clip.text),
        "scale": True,
        "bias": s.clip.sigmoid,
    }
    model = Model(
        "clip",
        settings,
        kinds.parts("clip", settings),
        _preprocessing(s.clip.vision.vit.image_size, s.mean, s.std),
        {"kind": "sentencepiece", "length": s.clip.text.text.max_length},
    )
    return _of(path, model, path)


def _of(path: str, model: Model, folder: str) -> Opened:
    run, found = runs.read(path), saved.metadata(path)
    return Opened(
        model=model,
        arrays=run.arrays,
        tokenizer=run.assets.get(TOKENIZER, b""),
        config=run.config,
        manifest=found["manifest"],
        step=run.step,
        folder=folder,
        revision=found["code_revision"],
    )


def _preprocessing(size: int, mean: Sequence[float], std: Sequence[float]) -> Json:
    return {
        "image_size": size,
        "mean": list(mean),
        "std": list(std),
        "resize": "square",
        "crop": "none",
        "interpolation": "linear",
    }
