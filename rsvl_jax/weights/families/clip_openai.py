"""CLIP as OpenAI published it and open_clip keeps it: RemoteCLIP, GeoRSCLIP, SkyCLIP, LAION's.

OpenAI's weights were trained with quick-GELU, most others with GELU: without a config the former
is taken, `{"quick_gelu": false}` says the latter.
"""

from rsvl_jax.errors import UserError
from rsvl_jax.models.clip import LN_EPS, SIGMOID_BIAS
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights import open_clip as oc
from rsvl_jax.weights.families import siglip_open_clip as siglip
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.kinds import clip
from rsvl_jax.weights.names import Entries, array, norm, patches

VISION = "visual."
_RESNET = f"{VISION}layer1.0.conv1.weight"
_POOLS = {"argmax": "eot", "eos": "eot", "last": "end"}


def _recognises(shapes: Shapes) -> bool:
    vision = f"{VISION}class_embedding" in shapes or _RESNET in shapes
    return vision and "logit_scale" in shapes


def _model(shapes: Shapes, config: Json) -> Model:
    own = oc.model_config(config)
    if _RESNET in shapes:
        raise UserError("the image tower is a ResNet, which cannot be held: choose a ViT")
    start = "text." if "text.token_embedding.weight" in shapes else ""
    if f"{start}token_embedding.weight" not in shapes:
        raise UserError("the text tower is not CLIP's own (a BERT, perhaps): it cannot be held")
    settings: Json = {
        "names": {"text": start},
        "image": _vision(shapes, own),
        "text": _text(shapes, start, own),
        "scale": True,
    }
    if "logit_bias" in shapes:
        settings["bias"] = True
    pixels = config.get("preprocess_cfg", {})
    preprocessing = c.preprocessing(
        settings["image"]["vit"]["image_size"],
        pixels.get("mean", c.CLIP_MEAN),
        pixels.get("std", c.CLIP_STD),
        resize="square" if pixels.get("resize_mode") == "squash" else "shortest",
    )
    tokenizer = {"kind": "clip", "length": settings["text"]["text"]["max_length"]}
    return Model("clip", settings, clip.parts(settings), preprocessing, tokenizer)


def _vision(shapes: Shapes, config: Json) -> Json:
    tower = config.get("vision_cfg", {})
    if tower.get("pool_type", "tok") != "tok" or tower.get("attentional_pool"):
        raise UserError(f"images pooled by {tower.get('pool_type', 'attention')!r}: expected 'tok'")
    width, _, patch, _ = shapes[f"{VISION}conv1.weight"]
    positions = shapes[f"{VISION}positional_embedding"][0]
    activation = oc.activation(config, tower, "quick_gelu")
    return {
        "vit": {
            "image_size": c.side(positions - 1) * patch,
            "patch_size": patch,
            "mask_token": False,
            "stem_norm": True,
            "transformer": oc.stack(shapes, VISION, tower, activation, LN_EPS),
        },
        "embed_dim": shapes[f"{VISION}proj"][1],
    }


def _text(shapes: Shapes, start: str, config: Json) -> Json:
    tower = config.get("text_cfg", {})
    pool = tower.get("pool_type", "argmax")
    if pool not in _POOLS:
        raise UserError(f"texts pooled by {pool!r}: expected one of {', '.join(_POOLS)}")
    activation = oc.activation(config, tower, "quick_gelu")
    stack = oc.stack(shapes, start, tower, activation, LN_EPS)
    text = oc.text(shapes, start, stack)
    return {
        "text": text,
        "embed_dim": shapes[f"{start}text_projection"][1],
        "pool": _POOLS[pool],
        "eot_id": tower.get("eos_id", 2) if pool == "eos" else text["vocab_size"] - 1,
        "causal": not tower.get("no_causal_mask", False),
    }


def _entries(settings: Json) -> Entries:
    if clip.is_siglip(settings):
        return siglip.entries(settings)
    start = settings.get("names", {}).get("text", "")
    entries = [
        *array("scale/value", "logit_scale"),
        *patches("image/vit/patch_embed", f"{VISION}conv1", bias=False),
        *array("image/vit/class_token", f"{VISION}class_embedding"),
        *array("image/vit/positions", f"{VISION}positional_embedding"),
        *norm("image/vit/stem_norm", f"{VISION}ln_pre"),
        *oc.blocks("image/vit/stack/layers", VISION),
        *norm("image/vit/norm", f"{VISION}ln_post"),
        *array("image/projection/kernel", f"{VISION}proj"),
        *oc.text_entries("text", start),
        *array("text/projection/kernel", f"{start}text_projection"),
    ]
    return entries + (array("bias/value", "logit_bias") if settings.get("bias") else [])


def _config(settings: Json) -> Json:
    if clip.is_siglip(settings):
        return siglip.config(settings)
    image, text = settings["image"], settings["text"]
    if text["pool"] == "last":
        raise UserError("open_clip has no pool 'last': texts that end with an end token have 'eot'")
    stacks = image["vit"]["transformer"], text["text"]["transformer"]
    model = {
        "embed_dim": image["embed_dim"],
        "quick_gelu": stacks[0]["activation"] == "quick_gelu",
        "vision_cfg": oc.vision_config(image["vit"]),
        "text_cfg": oc.text_config(text["text"]) | _pool_config(text),
    }
    if stacks[0]["activation"] != stacks[1]["activation"]:
        raise UserError("open_clip has one activation for both towers, these have two")
    if settings.get("bias"):
        model["init_logit_bias"] = SIGMOID_BIAS
    if settings.get("names", {}).get("text"):
        model["custom_text"] = True
    pixels = {"mean": list(c.CLIP_MEAN), "std": list(c.CLIP_STD)}
    return {"model_cfg": model, "preprocess_cfg": pixels}


def _pool_config(text: Json) -> Json:
    found: Json = {} if text.get("causal", True) else {"no_causal_mask": True}
    if text["pool"] == "end":
        return found | {"pool_type": "last"}
    if text["eot_id"] != text["text"]["vocab_size"] - 1:
        found |= {"pool_type": "eos", "eos_id": text["eot_id"]}
    return found


FAMILY = Family(
    name="clip-open_clip",
    title="CLIP (OpenAI, open_clip)",
    recognises=_recognises,
    model=_model,
    entries=_entries,
    config=_config,
    ignored=("input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask"),
)
