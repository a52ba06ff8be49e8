"""GeoCLIP's location encoder (VicenteVivan/geo-clip; the PyPI package `geoclip` carries it)."""

from rsvl_jax.errors import UserError
from rsvl_jax.models.location import GEOCLIP
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.kinds import location
from rsvl_jax.weights.names import LAYER, Entries, array, layers, linear, prefix

_FIRST = "LocEnc0.capsule.0.b"


def _model(shapes: Shapes, config: Json) -> Model:
    start = prefix(shapes, _FIRST)
    if start is None:
        raise UserError(f"no {_FIRST!r} here, as GeoCLIP's location encoder has: another family?")
    capsules = layers(shapes, f"{start}LocEnc{LAYER}.capsule.0.b")
    sigmas = config.get("sigma") or GEOCLIP.sigmas
    if len(sigmas) != capsules:
        raise UserError(f"{capsules} capsules, sigmas of {len(sigmas)}: give them as 'sigma'")
    # Between two linears of a capsule stands a ReLU: they are the odd ones.
    depth = layers(shapes, f"{start}LocEnc0.capsule.{LAYER}.weight") // 2
    settings = {
        "location": {
            "kind": "fourier",
            "dim": shapes[f"{start}LocEnc0.head.0.weight"][0],
            "width": shapes[f"{start}LocEnc0.head.0.weight"][1],
            "depth": depth,
            "sigmas": [float(sigma) for sigma in sigmas],
            "frequencies": shapes[f"{start}{_FIRST}"][0],
        },
        "names": {"prefix": start},
    }
    return Model("location", settings, location.parts(settings))


def _entries(settings: Json) -> Entries:
    start = settings.get("names", {}).get("prefix", "")
    entries: Entries = []
    for index in range(len(settings["location"]["sigmas"])):
        ours, theirs = f"location/capsule_{index}", f"{start}LocEnc{index}"
        entries += array(f"{ours}/frequencies", f"{theirs}.capsule.0.b")
        for layer in range(settings["location"]["depth"]):
            entries += linear(f"{ours}/layer_{layer}", f"{theirs}.capsule.{2 * layer + 1}")
        entries += linear(f"{ours}/out", f"{theirs}.head.0")
    return entries


FAMILY = Family(
    name="geoclip",
    title="GeoCLIP location encoder",
    recognises=lambda shapes: prefix(shapes, _FIRST) is not None,
    model=_model,
    entries=_entries,
    # Of the whole model: its image tower ends in an MLP on CLIP's embeddings.
    ignored=("image_encoder.", "logit_scale", "gps_queue", "gps_gallery"),
    licence="MIT",
)
