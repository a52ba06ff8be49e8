"""A student as the encoders that suites ask for."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from graft_jax.objective import GraftObjective
from graft_jax.settings import Settings
from graft_jax.teacher import Teacher
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.inference.encoders import fitted
from rsvl_jax.inference.images import Preprocessing

Tree = Any


class EncoderFactory:
    """Compiles the encoders of an objective once, for any parameters; texts are the teacher's."""

    def __init__(self, objective: GraftObjective, teacher: Teacher):
        self._objective, self._teacher = objective, teacher
        self._images = jax.jit(self._embed_images)

    def __call__(self, params: Tree, frozen: Tree) -> Encoders:
        """The encoders with these parameters."""
        settings = self._objective.settings
        return Encoders(
            images=partial(self._images, params, frozen),
            texts=self._read,
            image_size=settings.satellite.vit.image_size,
            protocol=_protocol(settings, self._teacher),
        )

    def _read(self, texts: list[str]) -> jax.Array:
        return jnp.asarray(self._teacher.model().texts(texts))

    def _embed_images(self, params: Tree, frozen: Tree, images: jax.Array) -> dict[str, jax.Array]:
        """Images uint8 of any size, resized to the model's where it is another."""
        images = fitted(images, self._objective.settings.satellite.vit.image_size)
        return self._objective.features(params, frozen, images)


def _protocol(settings: Settings, teacher: Teacher) -> dict[str, str]:
    size = settings.satellite.vit.image_size
    length = teacher.objective.settings.clip.text.text.max_length
    return {
        "image": f"whole tile resized to {size} x {size}, no crop",
        "normalisation": f"mean {settings.mean}, std {settings.std} of pixels in [0, 1]",
        "text": f"cut to {length} tokens",
    }


def preprocessing(settings: Settings) -> Preprocessing:
    """How images of any size become what the student sees."""
    return Preprocessing(
        image_size=settings.satellite.vit.image_size,
        mean=settings.mean,
        std=settings.std,
        resize="square",
        interpolation="linear",
    )
