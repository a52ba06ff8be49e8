"""A FLAVARS model as the encoders that the evaluation asks for."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flavars_jax.objective import FlavarsObjective
from rsvl_jax.data.tokenizer import Tokenizer
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.inference.encoders import fitted

Tree = Any


class EncoderFactory:
    """Compiles the encoders of an objective once, for any parameters."""

    def __init__(self, objective: FlavarsObjective, tokenizer: Tokenizer | None):
        self._objective = objective
        self._tokenizer = tokenizer
        self._images = jax.jit(self._embed_images)
        self._texts = jax.jit(objective.embed_texts)
        self._locations = jax.jit(
            lambda params, frozen, lon, lat: objective.embed_locations(
                params, frozen, lon=lon, lat=lat
            )
        )

    def __call__(self, params: Tree, frozen: Tree) -> Encoders:
        """The encoders with these parameters; those that the objective does not train are None."""
        contrasts = self._objective.contrasts
        places = {"image_location", "text_location"} & set(contrasts)
        return Encoders(
            images=partial(self._images, params, frozen),
            texts=self._text_encoder(params, frozen) if "image_text" in contrasts else None,
            locations=self._location_encoder(params, frozen) if places else None,
            image_size=self._objective.settings.image.image_size,
            protocol=self._protocol(),
        )

    def _embed_images(self, params: Tree, frozen: Tree, images: jax.Array) -> dict[str, jax.Array]:
        """Images uint8 of any size, resized to the model's where it is another."""
        images = fitted(images, self._objective.settings.image.image_size)
        return self._objective.embed_images(params, frozen, images)

    def _text_encoder(self, params: Tree, frozen: Tree) -> Callable[[list[str]], jax.Array]:
        length, tokenizer = self._objective.settings.text.max_length, self._tokenizer
        assert tokenizer is not None  # texts are embedded only where there are captions

        def encode(texts: list[str]) -> jax.Array:
            rows = [tokenizer.encode(text, length) for text in texts]
            ids, masks = (np.stack(column) for column in zip(*rows, strict=True))
            return self._texts(params, frozen, ids, masks)["text_space"]

        return encode

    def _location_encoder(self, params: Tree, frozen: Tree) -> Callable[..., jax.Array]:
        def encode(*, lon: np.ndarray, lat: np.ndarray) -> jax.Array:
            return self._locations(params, frozen, jnp.asarray(lon), jnp.asarray(lat))

        return encode

    def _protocol(self) -> dict[str, str]:
        settings = self._objective.settings
        size = settings.image.image_size
        return {
            "image": f"whole tile resized to {size} x {size}, no crop",
            "normalisation": f"mean {settings.mean}, std {settings.std} of pixels in [0, 1]",
            "text": f"cut to {settings.text.max_length} tokens",
        }
