"""GRAFT as its authors released it (utkarshmall13/graft_demo): NAIP or Sentinel-2, image or patch.

All four checkpoints have these names and shapes, of CLIP's ViT-B/16; the embeddings of tiles are
of use in the one for images, those of patches in the one for patches.
"""

from collections.abc import Sequence

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights.families import clip_huggingface as clip
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.kinds import graft
from rsvl_jax.weights.names import Entries, Entry, Shape, linear, norm

_BACKBONE = "satellite_image_backbone."
_TOWER = f"{_BACKBONE}vision_model."
_PROJECTION = f"{_BACKBONE}visual_projection"
_LARGEST_LOG = np.log(100)  # where CLIP stops the logarithm of its scale


def _recognises(shapes: Shapes) -> bool:
    return f"{_TOWER}pre_layrnorm.weight" in shapes and "projector.1.weight" in shapes


def _model(shapes: Shapes, config: Json) -> Model:
    if "projector.1.bias" in shapes:
        raise UserError("the projector has a bias, which none of the released checkpoints has")
    settings: Json = {"satellite": clip.vision(shapes, _TOWER, _PROJECTION, config)}
    if "logit_scale" in shapes:
        settings["scale"] = True
    size = settings["satellite"]["vit"]["image_size"]
    # As those do who use the checkpoints: the whole tile, not its middle.
    preprocessing = c.preprocessing(
        size, c.CLIP_MEAN, c.CLIP_STD, resize="square", interpolation="bilinear"
    )
    return Model("graft", settings, graft.parts(settings), preprocessing)


def _entries(settings: Json) -> Entries:
    found = [
        *clip.vision_entries("satellite", _TOWER),
        *linear("satellite/projection", _PROJECTION, bias=False),
        *norm("projector/norm", "projector.0"),
        *linear("projector/linear", "projector.1", bias=False),
    ]
    return found + ([_scale()] if settings.get("scale") else [])


def _scale() -> Entry:
    """The scale itself there (1 / 0.07), its logarithm here.

    The only numbers that a map computes: the round trip still gives our bits, as the rounding of
    the scale is a fraction of that of its logarithm. Some keep the logarithm, as CLIP does: what
    is too small for a scale is one.
    """

    def read(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        value = np.asarray(given[0], np.float64)
        if value.size == 1 and float(value.reshape(())) > _LARGEST_LOG:
            value = np.log(value)
        return np.asarray(value, given[0].dtype).reshape(shape if value.size == 1 else value.shape)

    def write(value: np.ndarray) -> Sequence[np.ndarray]:
        return [np.asarray(np.exp(np.asarray(value, np.float64)), value.dtype)]

    return Entry("scale/value", ("logit_scale",), read, write)


FAMILY = Family(
    name="graft",
    title="GRAFT satellite tower (released checkpoints)",
    recognises=_recognises,
    model=_model,
    entries=_entries,
    ignored=(f"{_TOWER}embeddings.position_ids",),
)
