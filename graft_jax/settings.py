"""From the config to checked, typed settings of the student and its objective."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.models import clip
from rsvl_jax.models.clip import ClipVisionConfig
from rsvl_jax.objectives.settings import channels, choice, positive, transformer
from rsvl_jax.objectives.weights import active
from rsvl_jax.training.objective import Weight

IMAGE, PIXEL = "image_ground", "pixel_ground"
LEVELS = {"image": (IMAGE,), "pixel": (PIXEL,), "both": (IMAGE, PIXEL)}
CONTRASTS = ("softmax", "sigmoid")


@dataclass(frozen=True)
class Settings:
    """Everything that the student and its objective read; see the table in `objective`.

    satellite: the student's tower; weights: of the level's terms; temperature: at the start, and
    for good unless learned; block_rows: None for the whole matrix at once; photos: slots P of a
    tile; mean, std: of pixels in [0, 1]. The others are config keys of the same names.
    """

    satellite: ClipVisionConfig
    weights: Mapping[str, Weight]
    temperature: float
    learn_temperature: bool
    symmetric: bool
    contrast: str
    block_rows: int | None
    mask_overlaps: bool
    photos: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def logit_scale(self) -> float:
        """Logarithm of what multiplies the cosines at the start."""
        return -math.log(self.temperature)


def from_config(config: Any) -> Settings:
    """The settings of a config (sections model, objective, data).

    Raises UserError, one line, for sizes that do not fit together and for unknown choices.
    """
    objective = config.objective
    settings = Settings(
        satellite=_satellite(config.model),
        weights=_weights(objective),
        temperature=_temperature(objective.temperature),
        learn_temperature=objective.learn_temperature,
        symmetric=objective.symmetric,
        contrast=choice("objective.contrast", objective.contrast, CONTRASTS),
        block_rows=_block_rows(objective.block_rows),
        mask_overlaps=objective.mask_overlaps,
        photos=positive("data.photos", config.data.photos),
        mean=channels("data.mean", config.data.mean),
        std=channels("data.std", config.data.std),
    )
    if settings.contrast == "sigmoid" and settings.symmetric:
        raise UserError(
            "objective.symmetric=True has no meaning with objective.contrast='sigmoid', whose "
            "questions have no direction: set it to False"
        )
    return settings


def _satellite(model: Any) -> ClipVisionConfig:
    return clip.vision_config(
        image_size=positive("model.image.size", model.image.size),
        patch_size=positive("model.image.patch", model.image.patch),
        embed_dim=positive("model.embed_dim", model.embed_dim),
        transformer=transformer("model.image", model.image, model, ln_eps=clip.LN_EPS),
    )


def _weights(objective: Any) -> Mapping[str, Weight]:
    """Weights of the terms of the level; those of the other level are not read."""
    level = choice("objective.level", objective.level, tuple(LEVELS))
    unknown = sorted(set(objective.weights) - {IMAGE, PIXEL})
    if unknown:
        raise UserError(
            f"objective.weights has unknown terms {unknown}: known are {IMAGE} and {PIXEL}"
        )
    weights = active({name: objective.weights[name] for name in LEVELS[level]})
    missing = sorted(set(LEVELS[level]) - set(weights))
    if missing:
        raise UserError(
            f"objective.weights.{missing[0]} is 0, but objective.level={level!r} trains it: "
            "give it a weight, or choose another level"
        )
    return weights


def _temperature(value: Any) -> float:
    """CLIP's bounds: logits of at most a hundred times the cosines, and at least the cosines."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.01 <= value <= 1:
        raise UserError(
            f"objective.temperature={value!r} must lie between 0.01 and 1 (CLIP's 0.07)"
        )
    return float(value)


def _block_rows(value: Any) -> int | None:
    return None if value is None else positive("objective.block_rows", value)
