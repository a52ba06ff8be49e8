"""Which runs are compared, and what each of them is: one place that says the recipe."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from configs import flavars, graft
from rsvl_jax.errors import UserError

SEEDS = (0, 1, 2)
# Methods as the tables name them, with the preset of `configs/flavars.py` that each one is.
METHODS = {"MAE": "mae", "CLIP": "clip", "FLAVA": "flava", "FLAVARS": "flavars"}
# The terms of FLAVARS that one run each goes without. Without `image_location` it is FLAVA.
TERMS = ("mim", "mlm", "mmm_image", "mmm_text", "itm", "image_text")
WITHOUT = "FLAVARS without "
UNTRAINED = "untrained"
GRAFT = "GRAFT"


@dataclass(frozen=True)
class Size:
    """What "equal budgets" are equal to.

    Attributes:
      steps, teacher_steps, student_steps: of FLAVARS and its peers; of GRAFT.
      overrides: config keys of every run of FLAVARS and its peers -> value.
      graft: the same for GRAFT.
    """

    steps: int
    teacher_steps: int
    student_steps: int
    overrides: Mapping[str, Any] = field(default_factory=dict)
    graft: Mapping[str, Any] = field(default_factory=dict)


# Chosen on the validation blocks, see docs/claims.md. Of the two readings of masked image modelling
# in FLAVARS the masked autoencoder's; without flips and turns CLIP is past its best after 500.
_COMMON = {
    "objective.mim_design": "mae",
    "objective.image_masking": "random",
    "objective.image_mask_ratio": 0.75,
    "data.flip_horizontal": True,
    "data.flip_vertical": True,
    "data.rotate": True,
}
_WIDE = {"width": 384, "heads": 6, "mlp_dim": 1536}
SIZES = {
    # Two CPU cores, four hours.
    "small": Size(steps=1000, teacher_steps=600, student_steps=200, overrides=_COMMON),
    # One accelerator: ViT-S towers, larger batches, more steps.
    "large": Size(
        steps=10_000,
        teacher_steps=6000,
        student_steps=2000,
        overrides={
            **_COMMON,
            **{f"model.image.{key}": value for key, value in (_WIDE | {"depth": 12}).items()},
            **{f"model.text.{key}": value for key, value in (_WIDE | {"depth": 6}).items()},
            **{f"model.fusion.{key}": value for key, value in (_WIDE | {"depth": 4}).items()},
            "model.embed_dim": 384,
            "model.init_std": 0.03,
            "model.dtype": "bfloat16",
            "data.batch_size": 512,
            "optimizer.learning_rate": 1e-3,
        },
        graft={
            **{f"model.image.{key}": value for key, value in (_WIDE | {"depth": 12}).items()},
            **{f"model.text.{key}": value for key, value in (_WIDE | {"depth": 6}).items()},
            "model.embed_dim": 384,
            "model.init_std": 0.03,
            "model.dtype": "bfloat16",
            "data.batch_size": 512,
            "teacher.data.batch_size": 512,
        },
    ),
}


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
      group: what it is a seed of, such as "FLAVARS" or "FLAVARS without mim".
      overrides: config keys -> value, over the preset's.
    """

    group: str
    seed: int
    preset: str
    overrides: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Of its work directory and its file of results."""
        return f"{self.group.lower().replace(' ', '-')}-{self.seed}"

    @property
    def graft(self) -> bool:
        """Whether it trains a teacher and a student instead of FLAVARS or a peer."""
        return self.group == GRAFT

    def config(self, data_dir: str) -> ConfigDict:
        """The whole recipe. Raises UserError for an override that the recipe does not have."""
        recipe = graft if self.graft else flavars
        config = recipe.get_config(self.preset)
        for key, value in {**self.overrides, "data.dir": data_dir}.items():
            _set(config, key, value)
        return config

    def recipe(self) -> str:
        """Hash of what decides the run's result but the code, 12 hex digits."""
        config = self.config("").to_dict()
        for key in _LOOKED_AT:
            config["evaluation"].pop(key, None)
        text = json.dumps(config, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


# Keys of `evaluation` that say what else a run is scored on as it goes.
_LOOKED_AT = ("suite", "suite_dir", "suite_every_steps")


def runs(size: Size) -> list[Run]:
    """All runs, those that decide the page's first question first, seeds of a group spread out."""
    found = [_peer(UNTRAINED, 0, "flavars", size, {"training.steps": 1, **_STILL})]
    for seed in SEEDS:
        found += [_peer(group, seed, preset, size) for group, preset in METHODS.items()]
        found.append(_graft(seed, size))
    for term in TERMS:
        weight = {f"objective.weights.{term}": 0.0}
        found.append(_peer(f"{WITHOUT}{term}", 0, "flavars", size, weight))
    return found


# The encoder at its initialisation: one step that changes nothing.
_STILL = {"optimizer.learning_rate": 0.0}


def _peer(
    group: str, seed: int, preset: str, size: Size, more: Mapping[str, Any] | None = None
) -> Run:
    overrides = {
        "training.steps": size.steps,
        "seed": seed,
        "evaluation.every_steps": 0,
        "checkpoint.keep": 1,
        **size.overrides,
        **(more or {}),
    }
    return Run(group, seed, preset, overrides)


def _graft(seed: int, size: Size) -> Run:
    overrides = {
        "seed": seed,
        "seeds": (seed,),
        "training.steps": size.student_steps,
        "teacher.training.steps": size.teacher_steps,
        "evaluation.every_steps": 0,
        "checkpoint.keep": 1,
        **size.graft,
    }
    return Run(GRAFT, seed, "", overrides)


def chosen(everything: Sequence[Run], only: Sequence[str]) -> list[Run]:
    """The runs of those names or groups; all for none. Raises UserError for an unknown one."""
    known = {run.name for run in everything} | {run.group for run in everything}
    for name in only:
        if name not in known:
            raise UserError(f"--only={name!r}: choose of {', '.join(sorted(known))}")
    return [run for run in everything if not only or run.name in only or run.group in only]


def _set(config: ConfigDict, key: str, value: Any) -> None:
    *path, last = key.split(".")
    section = config
    for part in path:
        section = section[part]
    if last not in section:
        raise UserError(f"the recipe has no key {key!r}")
    section[last] = value
