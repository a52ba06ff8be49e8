"""SigLIP as open_clip keeps it: the image tower by timm's names under "visual.trunk."."""

from collections.abc import Sequence

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.models.clip import SIGMOID_BIAS
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights import open_clip as oc
from rsvl_jax.weights.families.siglip_huggingface import LN_EPS, MEAN, STD
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.huggingface import heads
from rsvl_jax.weights.kinds import clip
from rsvl_jax.weights.names import (
    LAYER,
    Entries,
    Entry,
    Shape,
    array,
    fused_qkv,
    layers,
    linear,
    norm,
    patches,
    with_shape,
)

_TRUNK, _TEXT = "visual.trunk.", "text."
_POOL = f"{_TRUNK}attn_pool"
_BLOCK = f"{_TRUNK}blocks.{LAYER}"
_SIZES = {768: "base", 1024: "large", 1152: "so400m", 1536: "giantopt"}
# Those of timm's vit_SIZE_patchN_siglip_PIXELS that compute GELU by tanh; the others by erf.
_BY_TANH = (
    "vit_base_patch32_siglip_",
    "vit_large_patch16_siglip_512",
    "vit_so400m_patch16_siglip_",
    "vit_giantopt_",
)


def _recognises(shapes: Shapes) -> bool:
    return f"{_POOL}.latent" in shapes and f"{_TEXT}text_projection.bias" in shapes


def _model(shapes: Shapes, config: Json) -> Model:
    own = oc.model_config(config)
    tower = own.get("text_cfg", {})
    activation = oc.activation(own, tower, "gelu")
    stack = oc.stack(shapes, _TEXT, tower, activation, LN_EPS)
    settings: Json = {
        "image": _vision(shapes, own.get("vision_cfg", {}).get("timm_model_name", "")),
        "text": {
            "text": oc.text(shapes, _TEXT, stack),
            "embed_dim": shapes[f"{_TEXT}text_projection.weight"][0],
            "pool": "end",
            "causal": False,
            "projection_bias": True,
        },
        "scale": True,
        "bias": True,
    }
    size = settings["image"]["vit"]["image_size"]
    preprocessing = c.preprocessing(size, MEAN, STD, resize="square")
    length = settings["text"]["text"]["max_length"]
    tokenizer = {"kind": "sentencepiece", "length": length, "pad_to_length": True}
    return Model("clip", settings, clip.parts(settings), preprocessing, tokenizer)


def _vision(shapes: Shapes, timm: str) -> Json:
    width, _, patch, _ = shapes[f"{_TRUNK}patch_embed.proj.weight"]
    return {
        "vit": {
            "image_size": c.side(shapes[f"{_TRUNK}pos_embed"][1]) * patch,
            "patch_size": patch,
            "class_token": False,
            "mask_token": False,
            "transformer": c.transformer(
                width=width,
                depth=layers(shapes, f"{_BLOCK}.mlp.fc1.weight"),
                heads=heads(width, image=True),
                mlp_dim=shapes[f"{_TRUNK}blocks.0.mlp.fc1.weight"][0],
                activation=_activation(timm),
                ln_eps=LN_EPS,
            ),
        },
        "embed_dim": width,
        "pool": "attention",
        "projection": False,
    }


def _activation(timm: str) -> str:
    return "gelu_tanh" if timm.startswith(_BY_TANH) else "gelu"


def entries(settings: Json) -> Entries:
    """The map of names."""
    del settings  # always the same parts
    return [
        *array("scale/value", "logit_scale"),
        *array("bias/value", "logit_bias"),
        *patches("image/vit/patch_embed", f"{_TRUNK}patch_embed.proj"),
        *with_shape(array("image/vit/positions", f"{_TRUNK}pos_embed"), lambda own: (1, *own)),
        *_blocks("image/vit/stack/layers"),
        *norm("image/vit/norm", f"{_TRUNK}norm"),
        *_pool("image/pool"),
        *oc.text_entries("text", _TEXT),
        *linear("text/projection", f"{_TEXT}text_projection"),
    ]


def _blocks(ours: str) -> Entries:
    return [
        *norm(f"{ours}/attention_norm", f"{_BLOCK}.norm1"),
        *fused_qkv(f"{ours}/attention", f"{_BLOCK}.attn.qkv.weight", f"{_BLOCK}.attn.qkv.bias"),
        *linear(f"{ours}/attention/out", f"{_BLOCK}.attn.proj"),
        *norm(f"{ours}/mlp_norm", f"{_BLOCK}.norm2"),
        *linear(f"{ours}/mlp/up", f"{_BLOCK}.mlp.fc1"),
        *linear(f"{ours}/mlp/down", f"{_BLOCK}.mlp.fc2"),
    ]


def _pool(ours: str) -> Entries:
    whole = fused_qkv(f"{ours}/attention", "weight", "bias")
    return [
        *with_shape(array(f"{ours}/probe", f"{_POOL}.latent"), lambda shape: (1, 1, *shape)),
        *(_query_apart(entry) for entry in whole),
        *linear(f"{ours}/attention/out", f"{_POOL}.proj"),
        *norm(f"{ours}/norm", f"{_POOL}.norm"),
        *linear(f"{ours}/mlp/up", f"{_POOL}.mlp.fc1"),
        *linear(f"{ours}/mlp/down", f"{_POOL}.mlp.fc2"),
    ]


def _query_apart(whole: Entry) -> Entry:
    """A fused entry whose first third has a name of its own."""
    end = whole.theirs[0]

    def read(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        return whole.read([np.concatenate(given)], shape)

    def write(value: np.ndarray) -> Sequence[np.ndarray]:
        query, key, value = np.split(whole.write(value)[0], 3)
        return [query, np.concatenate([key, value])]

    return Entry(whole.ours, (f"{_POOL}.q.{end}", f"{_POOL}.kv.{end}"), read, write)


def config(settings: Json) -> Json:
    """Their open_clip_config.json. Raises UserError for sizes that timm has no name for."""
    image, text = settings["image"], settings["text"]
    vit, stack = image["vit"], image["vit"]["transformer"]
    size = _SIZES.get(stack["width"])
    name = f"vit_{size}_patch{vit['patch_size']}_siglip_{vit['image_size']}"
    if size is None or _activation(name) != stack["activation"]:
        raise UserError(
            f"timm has no SigLIP tower {stack['width']} wide with {stack['activation']!r}, which "
            "open_clip would build: export to 'huggingface'"
        )
    text_config = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    model = {
        "embed_dim": text["embed_dim"],
        "init_logit_bias": SIGMOID_BIAS,
        "custom_text": True,
        "vision_cfg": {
            "image_size": vit["image_size"],
            "timm_model_name": name,
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": oc.text_config(text["text"]) | text_config,
    }
    pixels = {"mean": list(MEAN), "std": list(STD), "resize_mode": "squash"}
    return {"model_cfg": model, "preprocess_cfg": pixels}


FAMILY = Family(
    name="siglip-open_clip",
    title="SigLIP (open_clip, timm)",
    recognises=_recognises,
    model=_model,
    entries=entries,
    config=config,
    ignored=("text.attn_mask",),
    licence="Apache-2.0",
)
