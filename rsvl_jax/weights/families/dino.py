"""DINO and DINOv2 of facebookresearch, by timm's names. DINOv3's positions are rotary: refused."""

from rsvl_jax.errors import UserError
from rsvl_jax.weights import vit_names as v
from rsvl_jax.weights.families import timm_vit as timm
from rsvl_jax.weights.family import Family, Json, Model, Shapes

_SELF_DISTILLED = ("dino_head.", "ibot_head.", "last_layer.", "mlp.")
_V3 = ("rope_embed.periods", "storage_tokens")


def _model(shapes: Shapes, config: Json) -> Model:
    return v.model(timm.settings(shapes, config))


def _is_v3(shapes: Shapes) -> bool:
    if "embeddings.patch_embeddings.weight" in shapes:  # as `transformers` calls it
        return "layer.0.attention.q_proj.weight" in shapes
    return any(name in shapes for name in _V3) and "pos_embed" not in shapes


def _refuse(shapes: Shapes, config: Json) -> Model:
    raise UserError(
        "DINOv3 turns queries and keys by their position (RoPE), which the towers here do not: use "
        "DINO or DINOv2"
    )


DINO_V2 = Family(
    name="dinov2",
    title="DINOv2 (facebookresearch, timm)",
    recognises=lambda shapes: timm.recognises(shapes) and "blocks.0.ls1.gamma" in shapes,
    model=_model,
    entries=timm.entries,
    ignored=(*timm.HEADS, *_SELF_DISTILLED),
    licence="Apache-2.0",
)
# By its names it is any ViT of timm's: only asked for by name.
DINO = Family(
    name="dino",
    title="DINO (facebookresearch)",
    recognises=timm.recognises,
    model=_model,
    entries=timm.entries,
    ignored=(*timm.HEADS, *_SELF_DISTILLED),
    licence="Apache-2.0",
)
DINO_V3 = Family(
    name="dinov3",
    title="DINOv3, which cannot be held",
    recognises=_is_v3,
    model=_refuse,
    entries=lambda settings: [],
)
