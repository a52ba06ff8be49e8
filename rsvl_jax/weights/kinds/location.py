"""A location encoder, SatCLIP's or GeoCLIP's: settings {"location": LocationConfig's fields}."""

from collections.abc import Mapping

from rsvl_jax.models.functional import Make
from rsvl_jax.models.location import LocationConfig, LocationEncoder
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.kinds.fields import build


def parts(settings: Json) -> Mapping[str, Make]:
    """The one part, `location`."""
    config = build(LocationConfig, settings["location"])
    return {"location": lambda rngs: LocationEncoder(config, rngs)}
