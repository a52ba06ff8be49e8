"""DALL-E's image tokenizer, alone: settings {"tokenizer": {image_size, width, vocab_size}}."""

from collections.abc import Mapping

from rsvl_jax.models.dvae import DalleEncoder
from rsvl_jax.models.functional import Make
from rsvl_jax.weights.family import Json


def parts(settings: Json) -> Mapping[str, Make]:
    """The one part, `tokenizer`, all of it frozen."""
    return {"tokenizer": tokenizer(settings["tokenizer"])}


def tokenizer(settings: Json) -> Make:
    """Maker of the encoder with these settings."""
    size, width, vocab = (settings[name] for name in ("image_size", "width", "vocab_size"))
    return lambda rngs: DalleEncoder(size, rngs, width=width, vocab_size=vocab)
