"""SatCLIP's location encoder: Lightning checkpoints of microsoft/satclip, and copies on hubs."""

import math

from rsvl_jax.errors import UserError
from rsvl_jax.models.location import SATCLIP
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.kinds import location
from rsvl_jax.weights.names import LAYER, Entries, layers, linear, prefix

_LAST = "nnet.last_layer.weight"
_RELEASED = "model.location."


def _start(shapes: Shapes) -> str | None:
    # Checkpoints hold the network twice, also as `model.nnet`; either will do.
    if f"{_RELEASED}{_LAST}" in shapes:
        return _RELEASED
    return prefix(shapes, _LAST)


def _model(shapes: Shapes, config: Json) -> Model:
    start = _start(shapes)
    if start is None:
        raise UserError(f"no {_LAST!r} here, as SatCLIP's location encoder has: another family?")
    width, din = shapes[f"{start}nnet.layers.0.weight"]
    degree = math.isqrt(din)
    if degree**2 != din:
        raise UserError(
            f"the first layer takes {din} features, not a square as spherical harmonics make: "
            "SatCLIP's other encodings of positions cannot be held"
        )
    settings = {
        "location": {
            "kind": "spherical_harmonics",
            "dim": shapes[f"{start}{_LAST}"][0],
            "width": width,
            "depth": layers(shapes, f"{start}nnet.layers.{LAYER}.weight"),
            "degree": degree,
            "dropout": SATCLIP.dropout,
        },
        "names": {"prefix": start},
    }
    return Model("location", settings, location.parts(settings))


def _entries(settings: Json) -> Entries:
    start = settings.get("names", {}).get("prefix", _RELEASED)
    entries = linear("location/siren/out", f"{start}nnet.last_layer")
    for layer in range(settings["location"]["depth"]):
        entries += linear(f"location/siren/layer_{layer}", f"{start}nnet.layers.{layer}")
    return entries


FAMILY = Family(
    name="satclip",
    title="SatCLIP location encoder",
    recognises=lambda shapes: _start(shapes) is not None,
    model=_model,
    entries=_entries,
    ignored=("model.visual.", "model.nnet.", "model.posenc.", "model.logit_scale"),
    licence="MIT",
)
