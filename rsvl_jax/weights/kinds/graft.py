"""GRAFT's satellite tower: settings {"satellite": ClipVisionConfig's fields, "scale": true}.

With "text" (ClipTextConfig's fields) also the text tower of the CLIP that taught it.
"""

from collections.abc import Mapping

from rsvl_jax.models.clip import (
    ClipText,
    ClipTextConfig,
    ClipVision,
    ClipVisionConfig,
    Projector,
)
from rsvl_jax.models.functional import Make
from rsvl_jax.models.heads import ContrastScale
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.kinds.fields import build


def parts(settings: Json) -> Mapping[str, Make]:
    """`satellite`, the tower of whole tiles; `projector`, of their patches; `scale`, `text`."""
    config = build(ClipVisionConfig, settings["satellite"])
    found: dict[str, Make] = {
        "satellite": lambda rngs: ClipVision(config, rngs),
        "projector": lambda rngs: Projector(config, rngs),
    }
    if settings.get("scale"):
        found["scale"] = lambda rngs: ContrastScale()
    if "text" in settings:
        text = build(ClipTextConfig, settings["text"])
        found["text"] = lambda rngs: ClipText(text, rngs)
    return found
