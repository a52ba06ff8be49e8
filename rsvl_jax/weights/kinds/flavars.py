"""What a FLAVARS run embeds with: towers, and their projections into the spaces of its contrasts.

Settings: "image" (VitConfig's fields), "text" (TextConfig's), "location" (LocationConfig's), each
where the run has the tower; "image_pooling": "cls" or "mean"; "contrasts": name -> {"towers",
"dim"}. The heads of its masked terms are not among the parts.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from rsvl_jax.models.functional import Make
from rsvl_jax.models.heads import ContrastScale, Projection
from rsvl_jax.models.location import LocationConfig, LocationEncoder
from rsvl_jax.models.text import TextConfig, TextEncoder
from rsvl_jax.models.vit import Vit, VitConfig
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.kinds.fields import build

_TOWERS: dict[str, tuple[Any, Any]] = {
    "image": (VitConfig, Vit),
    "text": (TextConfig, TextEncoder),
    "location": (LocationConfig, LocationEncoder),
}


def parts(settings: Json) -> Mapping[str, Make]:
    """Towers by name; "<contrast>/<tower>", a projection, and "<contrast>/scale"."""
    found: dict[str, Make] = {}
    for name, (config, module) in _TOWERS.items():
        if name in settings:
            found[name] = partial(module, build(config, settings[name]))
    for name, contrast in settings["contrasts"].items():
        for tower in contrast["towers"]:
            width = settings[tower]["transformer"]["width"]
            found[f"{name}/{tower}"] = partial(Projection, width, contrast["dim"])
        found[f"{name}/scale"] = lambda rngs: ContrastScale()
    return found
