"""FLAVA as `transformers` keeps it: FlavaForPreTraining with all heads, or FlavaModel alone."""

from rsvl_jax.weights import flava
from rsvl_jax.weights import huggingface as hf
from rsvl_jax.weights.families.dalle import codebook_config
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.flava import Layout
from rsvl_jax.weights.names import Entries

_TOWERS = {"image": "image_model.", "text": "text_model.", "fusion": "multimodal_model."}
_CLASS_TOKENS = ("image_model.embeddings.cls_token", "multimodal_model.cls_token")


def _layout(start: str) -> Layout:
    """start: "flava." inside FlavaForPreTraining, nothing for a FlavaModel."""
    attention = {name: f"attention.attention.{name}" for name in ("query", "key", "value")}
    heads = ("mim_head", "mlm_head", "mmm_image_head", "mmm_text_head")
    return Layout(
        towers={name: start + theirs for name, theirs in _TOWERS.items()},
        block={
            **attention,
            "out": "attention.output.dense",
            "up": "intermediate.dense",
            "down": "output.dense",
            "attention_norm": "layernorm_before",
            "mlp_norm": "layernorm_after",
        },
        embed_norm="embeddings.LayerNorm",
        heads={name: f"{name}." for name in heads},
        head={"dense": "transform.dense", "norm": "transform.LayerNorm"},
        to_fusion={name: f"{start}{name}_to_mm_projection" for name in ("image", "text")},
        projections={name: f"{start}{name}_projection" for name in ("image", "text")},
        scale=f"{start}logit_scale",
        itm={"pooler": "itm_head.pooler.dense", "classifier": "itm_head.seq_relationship"},
        codebook="image_codebook.",
        openai=False,
    )


def _start(shapes: Shapes) -> str | None:
    for start in ("flava.", ""):
        if all(f"{start}{name}" in shapes for name in _CLASS_TOKENS):
            return start
    return None


def _model(shapes: Shapes, config: Json) -> Model:
    start = _start(shapes) or ""
    layout = _layout(start)
    names = {"start": start, "head_bias": flava.head_bias(layout, shapes)}
    # Heads take it from their tower's config, as the towers do.
    eps = config.get("image_config", {}).get("layer_norm_eps", flava.LN_EPS)
    return flava.model(layout, shapes, config, eps, names)


def _entries(settings: Json) -> Entries:
    default = "flava." if settings.get("heads") else ""
    return flava.entries(_layout(settings.get("names", {}).get("start", default)), settings)


def _config(settings: Json) -> Json:
    image, text, heads = settings["image"], settings["text"], settings.get("heads", {})
    fusion = hf.stack_config(settings["fusion"]["transformer"])
    image_config = hf.image_config(image) | {"mask_token": image.get("mask_token", True)}
    tokenizer = settings.get("tokenizer")
    if "mim_head" in heads:
        image_config["vocab_size"] = heads["mim_head"]
    return {
        "architectures": ["FlavaForPreTraining" if heads else "FlavaModel"],
        "model_type": "flava",
        "image_config": image_config,
        "text_config": hf.text_config(text),
        "multimodal_config": fusion,
        "image_codebook_config": codebook_config(tokenizer) if tokenizer else {},
        "init_codebook": tokenizer is not None,
        "hidden_size": fusion["hidden_size"],
        "layer_norm_eps": fusion["layer_norm_eps"],
        "projection_dim": _projection_dim(settings),
    }


def _projection_dim(settings: Json) -> int:
    own = settings.get("image_text")
    return own["embed_dim"] if own else settings["image"]["transformer"]["width"]


FAMILY = Family(
    name="flava-huggingface",
    title="FLAVA (transformers)",
    recognises=lambda shapes: _start(shapes) is not None,
    model=_model,
    entries=_entries,
    config=_config,
    ignored=tuple(
        f"{start}text_model.embeddings.{name}"
        for start in ("flava.", "")
        for name in ("position_ids", "token_type_ids")
    ),
    licence="BSD-3-Clause",
)
