"""SigLIP as `transformers` keeps it (SigLIP 2 of fixed image size too): SiglipModel, its towers."""

from rsvl_jax.weights import conventions as c
from rsvl_jax.weights import huggingface as hf
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.kinds import clip
from rsvl_jax.weights.names import (
    Entries,
    array,
    fused_qkv,
    linear,
    norm,
    patches,
    prefix,
    with_shape,
)

LN_EPS = 1e-6
MEAN = STD = (0.5, 0.5, 0.5)
_ACTIVATION = "gelu_tanh"
_TOWERS = {"image": "vision_model.", "text": "text_model."}


def _starts(shapes: Shapes) -> dict[str, str]:
    """What stands before the names of each tower that is there."""
    found = {"image": prefix(shapes, "head.probe"), "text": None}
    start = prefix(shapes, "embeddings.token_embedding.weight")
    if start is not None and f"{start}head.weight" in shapes:
        found["text"] = start
    return {name: start for name, start in found.items() if start in ("", _TOWERS[name])}


def recognises(shapes: Shapes) -> bool:
    """Whether these are its names."""
    return bool(_starts(shapes))


def _model(shapes: Shapes, config: Json) -> Model:
    starts = _starts(shapes)
    settings: Json = {"names": starts}
    preprocessing, tokenizer = {}, {}
    if "image" in starts:
        own = config.get("vision_config", config)
        settings["image"] = _vision(shapes, starts["image"], own)
        size = settings["image"]["vit"]["image_size"]
        preprocessing = c.preprocessing(size, MEAN, STD, resize="square")
    if "text" in starts:
        settings["text"] = _text(shapes, starts["text"], config.get("text_config", config))
        length = settings["text"]["text"]["max_length"]
        tokenizer = {"kind": "sentencepiece", "length": length, "pad_to_length": True}
    for ours, theirs in (("scale", "logit_scale"), ("bias", "logit_bias")):
        if theirs in shapes:
            settings[ours] = True
    return Model("clip", settings, clip.parts(settings), preprocessing, tokenizer)


def _vision(shapes: Shapes, start: str, config: Json) -> Json:
    width, _, patch, _ = shapes[f"{start}embeddings.patch_embedding.weight"]
    return {
        "vit": {
            "image_size": c.side(shapes[f"{start}embeddings.position_embedding.weight"][0]) * patch,
            "patch_size": patch,
            "class_token": False,
            "mask_token": False,
            "transformer": hf.stack(shapes, start, config, _ACTIVATION, LN_EPS),
        },
        "embed_dim": width,
        "pool": "attention",
        "projection": False,
    }


def _text(shapes: Shapes, start: str, config: Json) -> Json:
    stack = hf.stack(shapes, start, config, _ACTIVATION, LN_EPS)
    return {
        "text": hf.text(shapes, start, stack),
        "embed_dim": shapes[f"{start}head.weight"][0],
        "pool": "end",
        "causal": False,
        "projection_bias": True,
    }


def entries(settings: Json) -> Entries:
    """The map of names."""
    starts = {**_TOWERS, **settings.get("names", {})}
    found: Entries = []
    if "image" in settings:
        found += _vision_entries("image", starts["image"])
    if "text" in settings:
        found += hf.text_entries("text", starts["text"])
        found += linear("text/projection", f"{starts['text']}head")
    for ours, theirs in (("scale", "logit_scale"), ("bias", "logit_bias")):
        if settings.get(ours):
            found += with_shape(array(f"{ours}/value", theirs), lambda _: (1,))
    return found


def _vision_entries(ours: str, start: str) -> Entries:
    pool = f"{start}head"
    return [
        *patches(f"{ours}/vit/patch_embed", f"{start}embeddings.patch_embedding"),
        *array(f"{ours}/vit/positions", f"{start}embeddings.position_embedding.weight"),
        *hf.blocks(f"{ours}/vit/stack/layers", start),
        *norm(f"{ours}/vit/norm", f"{start}post_layernorm"),
        *with_shape(array(f"{ours}/pool/probe", f"{pool}.probe"), lambda shape: (1, 1, *shape)),
        *fused_qkv(
            f"{ours}/pool/attention",
            f"{pool}.attention.in_proj_weight",
            f"{pool}.attention.in_proj_bias",
        ),
        *linear(f"{ours}/pool/attention/out", f"{pool}.attention.out_proj"),
        *norm(f"{ours}/pool/norm", f"{pool}.layernorm"),
        *linear(f"{ours}/pool/mlp/up", f"{pool}.mlp.fc1"),
        *linear(f"{ours}/pool/mlp/down", f"{pool}.mlp.fc2"),
    ]


def config(settings: Json) -> Json:
    """Their config.json."""
    image = text = None
    if "image" in settings:
        image = hf.image_config(settings["image"]["vit"])
    if "text" in settings:
        text = hf.text_config(settings["text"]["text"])
        text["projection_size"] = settings["text"]["embed_dim"]
    classes = ["SiglipModel", "SiglipVisionModel", "SiglipTextModel"]
    return hf.towers_config("siglip", classes, image, text, {})


FAMILY = Family(
    name="siglip-huggingface",
    title="SigLIP (transformers)",
    recognises=recognises,
    model=_model,
    entries=entries,
    config=config,
    ignored=tuple(f"{start}embeddings.position_ids" for start in ("", *_TOWERS.values())),
    licence="Apache-2.0",
)
