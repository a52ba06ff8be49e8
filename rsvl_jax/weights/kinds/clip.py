"""Two towers and what their contrast learned: CLIP, SigLIP, or one tower of either.

Settings: {"image": ClipVisionConfig's fields, "text": ClipTextConfig's fields, "scale": true,
"bias": true}; a key that is not there is a part that the model has not.
"""

from collections.abc import Mapping

from rsvl_jax.models.clip import (
    SIGMOID_BIAS,
    ClipText,
    ClipTextConfig,
    ClipVision,
    ClipVisionConfig,
)
from rsvl_jax.models.functional import Make
from rsvl_jax.models.heads import ContrastBias, ContrastScale
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.kinds.fields import build


def parts(settings: Json) -> Mapping[str, Make]:
    """Those of `image`, `text`, `scale` and `bias` (SigLIP's) that the settings name."""
    found: dict[str, Make] = {}
    if "image" in settings:
        vision = build(ClipVisionConfig, settings["image"])
        found["image"] = lambda rngs: ClipVision(vision, rngs)
    if "text" in settings:
        text = build(ClipTextConfig, settings["text"])
        found["text"] = lambda rngs: ClipText(text, rngs)
    if settings.get("scale"):
        found["scale"] = lambda rngs: ContrastScale()
    if settings.get("bias"):
        found["bias"] = lambda rngs: ContrastBias(SIGMOID_BIAS)
    return found


def is_siglip(settings: Json) -> bool:
    """Whether the towers are SigLIP's: attention pools the patches, words see those after them."""
    if "image" in settings:
        return settings["image"].get("pool") == "attention"
    return not settings["text"].get("causal", True)
