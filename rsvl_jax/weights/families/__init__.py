"""The families that can be read, in the order in which they are tried."""

from rsvl_jax.errors import UserError
from rsvl_jax.weights.families import (
    bert,
    clip_huggingface,
    clip_openai,
    dalle,
    dino,
    flava_huggingface,
    flava_torchmultimodal,
    geoclip,
    graft,
    mae,
    roberta,
    satclip,
    siglip_huggingface,
    siglip_open_clip,
    timm_vit,
    vit_huggingface,
)
from rsvl_jax.weights.family import Family, Shapes

# A line of imports and a line here for each file. Where one family's names hold another's, the one
# with more names comes first.
FAMILIES: tuple[Family, ...] = (
    satclip.FAMILY,
    geoclip.FAMILY,
    flava_huggingface.FAMILY,
    flava_torchmultimodal.FAMILY,
    graft.FAMILY,
    clip_huggingface.FAMILY,
    clip_openai.FAMILY,
    siglip_huggingface.FAMILY,
    siglip_open_clip.FAMILY,
    dalle.HUGGINGFACE,
    dalle.OPENAI,
    roberta.FAMILY,
    bert.FAMILY,
    vit_huggingface.FAMILY,
    mae.SCALEMAE,
    mae.MAE,
    dino.DINO_V3,
    dino.DINO_V2,
    timm_vit.FAMILY,
    # By their names they are timm's or MAE's: only when asked for.
    dino.DINO,
    mae.SATMAE,
)

_SHOWN = 4  # names told of a checkpoint that nobody knows


def find(name: str) -> Family:
    """The family of that name. Raises UserError, with the names there are."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UserError(f"unknown family {name!r}: choose one of {_names()}")


def recognise(shapes: Shapes) -> Family:
    """The first family whose names these are. Raises UserError where there is none."""
    for family in FAMILIES:
        if family.recognises(shapes):
            return family
    few = ", ".join(sorted(shapes)[:_SHOWN]) + (", ..." if len(shapes) > _SHOWN else "")
    raise UserError(
        f"{len(shapes)} arrays of no family that is known ({few or 'none at all'}): give "
        f"--family, one of {_names()}"
    )


def _names() -> str:
    return ", ".join(family.name for family in FAMILIES)
