"""FLAVA as facebookresearch/multimodal keeps it: FLAVAForPreTraining, or FLAVAModel alone."""

from rsvl_jax.weights import flava
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.flava import Layout
from rsvl_jax.weights.names import Entries

_TOWERS = {"image": "image_encoder.", "text": "text_encoder.", "fusion": "mm_encoder."}
_HEAD_EPS = 1e-5  # of the heads' norms alone
_LOSSES = {
    "mim_head": "loss.mim_loss.cls.",
    "mlm_head": "loss.mlm_loss.cls.",
    "mmm_image_head": "loss.mmm_loss.mim.cls.",
    "mmm_text_head": "loss.mmm_loss.mlm.cls.",
}
_CONTRAST = "loss.contrastive_loss."
_UP = "feedforward.model.0"
_SIDES = ("image", "text")


def _layout(names: Json) -> Layout:
    """names: "start", of the encoders; "projections", what those of the contrast begin with;
    "down", the second matrix of an MLP, whose number says whether dropout stands before it."""
    start = names["start"]
    attention = {name: f"attention.{name}" for name in ("query", "key", "value")}
    return Layout(
        towers={name: start + theirs for name, theirs in _TOWERS.items()},
        block={
            **attention,
            "out": "attention.output",
            "up": _UP,
            "down": names["down"],
            "attention_norm": "attention_layernorm",
            "mlp_norm": "feedforward_layernorm",
        },
        embed_norm="embeddings.layer_norm",
        heads=_LOSSES,
        head={"dense": "dense", "norm": "layer_norm"},
        to_fusion={name: f"{start}{name}_to_mm_projection" for name in _SIDES},
        projections={name: f"{names['projections']}{name}_projection" for name in _SIDES},
        scale=f"{_CONTRAST}logit_scale",
        itm={
            "pooler": "loss.itm_loss.pooler.dense",
            "classifier": "loss.itm_loss.cls.seq_relationship",
        },
        codebook="image_codebook.encoder.",
        openai=True,
    )


def _start(shapes: Shapes) -> str | None:
    for start in ("model.", ""):
        layer = f"{start}mm_encoder.encoder.layer.0.{_UP}.weight"
        if f"{start}image_encoder.embeddings.cls_token" in shapes and layer in shapes:
            return start
    return None


def _model(shapes: Shapes, config: Json) -> Model:
    start = _start(shapes) or ""
    inside = f"{_CONTRAST}image_projection.weight" in shapes
    down = "feedforward.model.3"
    if f"{start}mm_encoder.encoder.layer.0.{down}.weight" not in shapes:
        down = "feedforward.model.2"
    names: Json = {"start": start, "projections": _CONTRAST if inside else start, "down": down}
    layout = _layout(names)
    names["head_bias"] = flava.head_bias(layout, shapes)
    return flava.model(layout, shapes, config, _HEAD_EPS, names)


def _entries(settings: Json) -> Entries:
    return flava.entries(_layout(settings["names"]), settings)


FAMILY = Family(
    name="flava-torchmultimodal",
    title="FLAVA (torchmultimodal)",
    recognises=lambda shapes: _start(shapes) is not None,
    model=_model,
    entries=_entries,
    licence="BSD-3-Clause",
)
