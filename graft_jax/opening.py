"""A GRAFT run, or one of the runs in it, as a model to use, without its data."""

import os
from collections.abc import Sequence
from dataclasses import asdict, replace

from ml_collections import ConfigDict

from graft_jax.settings import from_config
from graft_jax.teacher import TOKENIZER
from rsvl_jax.objectives import image_text
from rsvl_jax.training import saved
from rsvl_jax.weights import kinds, runs
from rsvl_jax.weights.family import Json, Model
from rsvl_jax.weights.methods import Opened
from rsvl_jax.weights.sources import Arrays

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
    teacher = _find_teacher(path, own.config)
    if teacher is None:
        return own
    towers = _pair(teacher)
    settings = own.model.settings | {"text": towers.model.settings["text"]}
    model = replace(
        own.model,
        settings=settings,
        parts=kinds.parts("graft", settings),
        tokenizer=towers.model.tokenizer,
    )
    both = {**own.arrays.tensors, **towers.arrays.only(_below(towers.arrays, "text")).tensors}
    return replace(own, model=model, arrays=Arrays(both), tokenizer=towers.tokenizer)


def _below(arrays: Arrays, part: str) -> list[str]:
    return [name for name in arrays if name.startswith(f"{part}/")]


def _find_teacher(path: str, config: Json) -> str | None:
    """The directory of the teacher's run; None where it is not there (any more)."""
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), _TEACHER)
    for folder in (config["init_from"].get("teacher"), beside):
        if isinstance(folder, str) and folder and runs.has_checkpoints(folder):
            return folder
    return None


def _opened(path: str) -> Opened:
    """A student without texts."""
    found = saved.metadata(path)
    s = from_config(ConfigDict(found["config"]))
    settings: Json = {"satellite": asdict(s.satellite), "projector": True}
    if s.learn_temperature:
        settings["scale"] = True
    model = Model(
        "graft",
        settings,
        kinds.parts("graft", settings),
        _preprocessing(s.satellite.vit.image_size, s.mean, s.std),
    )
    # A run of several students is scored in the folder around them.
    return _of(path, model, os.path.dirname(os.path.abspath(path)))


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
