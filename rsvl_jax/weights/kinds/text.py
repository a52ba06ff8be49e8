"""A text encoder, BERT's say: settings {"text": TextConfig's fields, "mlm_head": {"activation",
"ln_eps"}}; without the latter it has no head."""

from collections.abc import Mapping

from rsvl_jax.models.functional import Make
from rsvl_jax.models.heads import MaskedTokenHead
from rsvl_jax.models.text import TextConfig, TextEncoder
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.kinds.fields import build


def parts(settings: Json) -> Mapping[str, Make]:
    """`text`, and `mlm_head` where the settings have it."""
    config = build(TextConfig, settings["text"])
    found: dict[str, Make] = {"text": lambda rngs: TextEncoder(config, rngs)}
    if "mlm_head" in settings:
        width, options = config.transformer.width, settings["mlm_head"]
        found["mlm_head"] = lambda rngs: MaskedTokenHead(width, config.vocab_size, rngs, **options)
    return found
