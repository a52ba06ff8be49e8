"""An image tower alone, with the decoder of its masked autoencoder where that came along.

Settings: {"image": VitConfig's fields, "decoder": MaeDecoderConfig's fields}.
"""

from collections.abc import Mapping

from rsvl_jax.models.functional import Make
from rsvl_jax.models.heads import MaeDecoder, MaeDecoderConfig
from rsvl_jax.models.vit import Vit, VitConfig
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.kinds.fields import build


def parts(settings: Json) -> Mapping[str, Make]:
    """`image`, and `decoder` where the settings have one."""
    image = build(VitConfig, settings["image"])
    found: dict[str, Make] = {"image": lambda rngs: Vit(image, rngs)}
    if "decoder" in settings:
        decoder = build(MaeDecoderConfig, settings["decoder"])
        found["decoder"] = lambda rngs: MaeDecoder(decoder, rngs)
    return found
