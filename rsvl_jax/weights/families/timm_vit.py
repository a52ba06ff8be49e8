"""Image towers by timm's names, which facebookresearch's mae, dino and dinov2 and SatMAE share."""

from rsvl_jax.errors import UserError
from rsvl_jax.models.clip import LN_EPS
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights import vit_names as v
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.huggingface import heads
from rsvl_jax.weights.names import LAYER, Entries, array, fused_qkv, layers, linear, norm, patches

BLOCK = f"blocks.{LAYER}"
HEADS = ("head.", "head_dist.", "fc_norm.", "pre_logits.")
REGISTERS = ("reg_token", "register_tokens")  # timm's and dinov2's
_NOT_HELD = {
    "mlp.w12.weight": "a SwiGLU (of DINOv2's giant)",
    "mlp.w1.weight": "a SwiGLU",
    "attn.q_norm.weight": "a norm of queries and keys",
    "rope_embed.periods": "rotary positions (of DINOv3)",
    "relative_position_bias_table": "biases of relative positions (of BEiT)",
    "channel_embed": "groups of spectral bands (of SatMAE): RGB checkpoints",
    "dist_token": "a token of distillation (of DeiT)",
}


def recognises(shapes: Shapes) -> bool:
    """Whether these are such names."""
    stem = any(n.startswith("patch_embed.") and n.endswith("proj.weight") for n in shapes)
    return stem and "cls_token" in shapes and "blocks.0.attn.qkv.weight" in shapes


def settings(shapes: Shapes, config: Json, positions: str = "learned") -> Json:
    """Settings of the encoder. Raises UserError for a tower that cannot be held."""
    v.refuse(shapes, _NOT_HELD)
    if "pos_embed" not in shapes:
        raise UserError("no 'pos_embed': only towers with a table of positions can be held")
    if "fc_norm.weight" in shapes and "norm.weight" not in shapes:
        raise UserError(
            "'fc_norm.weight': a tower whose norm comes after the mean over patches, as fine-tuned "
            "by MAE, cannot be held: give the pretrained one"
        )
    own = v.image(
        blocks(shapes, config, "blocks", config.get("num_heads")),
        shapes["patch_embed.proj.weight"],
        shapes["pos_embed"],
        kind=positions,
    )
    own["stem_norm"] = "norm_pre.weight" in shapes
    registers = next((name for name in REGISTERS if name in shapes), None)
    names: Json = {"no_class_position": v.has_no_class(shapes["pos_embed"][-2])}
    if registers:
        own["registers"] = shapes[registers][-2]
        names["registers"] = registers
    # MAE's mask token is its decoder's.
    own["mask_token"] = "mask_token" in shapes and "decoder_embed.weight" not in shapes
    return {"image": own, "names": {"timm": names}}


def blocks(shapes: Shapes, config: Json, theirs: str, number: int | None) -> Json:
    """Fields of the TransformerConfig of the blocks called that."""
    first = f"{theirs}.0."
    mlp_dim, width = shapes[f"{first}mlp.fc1.weight"]
    if f"{first}attn.qkv.bias" not in shapes:
        raise UserError(f"no '{first}attn.qkv.bias': attention without it cannot be held")
    stack = c.transformer(
        width=width,
        depth=layers(shapes, f"{theirs}.{LAYER}.norm1.weight"),
        heads=number or heads(width, image=True),
        mlp_dim=mlp_dim,
        activation="quick_gelu" if "quickgelu" in config.get("architecture", "") else "gelu",
        # timm's towers of CLIP have CLIP's.
        ln_eps=LN_EPS if "norm_pre.weight" in shapes else v.LN_EPS,
    )
    return stack | ({"layer_scale": True} if f"{first}ls1.gamma" in shapes else {})


def entries(settings: Json) -> Entries:
    """Of the encoder."""
    own, names = settings["image"], settings.get("names", {}).get("timm", {})
    stem_norm = own.get("stem_norm", False)
    found = [
        *v.token("image/class_token", "cls_token"),
        *patches("image/patch_embed", "patch_embed.proj", bias=not stem_norm),
        *block_entries("image/stack/layers", BLOCK, own["transformer"]),
        *norm("image/norm", "norm"),
    ]
    if own["positions"] != "sincos":
        with_class = not names.get("no_class_position")
        found += v.table("image/positions", "pos_embed", with_class=with_class)
    if stem_norm:
        found += norm("image/stem_norm", "norm_pre")
    if own.get("registers"):
        found += v.table("image/registers", names.get("registers", REGISTERS[0]))
    if own.get("mask_token"):
        found += v.token("image/mask_token", "mask_token", 2)
    return found


def block_entries(ours: str, theirs: str, transformer: Json) -> Entries:
    """Of a Stack's layers at `ours`."""
    found = [
        *norm(f"{ours}/attention_norm", f"{theirs}.norm1"),
        *fused_qkv(f"{ours}/attention", f"{theirs}.attn.qkv.weight", f"{theirs}.attn.qkv.bias"),
        *linear(f"{ours}/attention/out", f"{theirs}.attn.proj"),
        *norm(f"{ours}/mlp_norm", f"{theirs}.norm2"),
        *linear(f"{ours}/mlp/up", f"{theirs}.mlp.fc1"),
        *linear(f"{ours}/mlp/down", f"{theirs}.mlp.fc2"),
    ]
    if transformer.get("layer_scale"):
        found += array(f"{ours}/attention_scale", f"{theirs}.ls1.gamma")
        found += array(f"{ours}/mlp_scale", f"{theirs}.ls2.gamma")
    return found


def _model(shapes: Shapes, config: Json) -> Model:
    own = config.get("pretrained_cfg", config)
    mean, std = own.get("mean", v.IMAGENET_MEAN), own.get("std", v.IMAGENET_STD)
    return v.model(settings(shapes, {**config, **config.get("model_args", {})}), mean, std)


FAMILY = Family(
    name="timm-vit",
    title="ViT by timm's names",
    recognises=recognises,
    model=_model,
    entries=entries,
    # Classifiers.
    ignored=HEADS,
)
