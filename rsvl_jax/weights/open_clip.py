"""What CLIP and SigLIP share in open_clip: blocks, text towers, and what configs say of them.

`start` is what stands before a tower's names: "visual.", "text.", or nothing.
"""

import math

from rsvl_jax.errors import UserError
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights.family import Json, Shapes
from rsvl_jax.weights.huggingface import heads
from rsvl_jax.weights.names import LAYER, Entries, array, fused_qkv, layers, linear, norm

_BLOCK = f"transformer.resblocks.{LAYER}"


def model_config(config: Json) -> Json:
    """What builds the model, from open_clip_config.json or one of open_clip's model_configs."""
    return config.get("model_cfg", config)


def activation(config: Json, tower: Json, default: str) -> str:
    """That of a tower ("vision_cfg", "text_cfg"); default: where there is no config at all."""
    if not config:
        return default
    if config.get("quick_gelu", False):
        return "quick_gelu"
    tanh = tower.get("act_kwargs", {}).get("approximate") == "tanh"
    return "gelu_tanh" if tanh else "gelu"


def stack(shapes: Shapes, start: str, tower: Json, activation: str, ln_eps: float) -> Json:
    """Fields of a tower's TransformerConfig. tower: its "vision_cfg" or "text_cfg".

    Raises UserError for blocks with what ours have not.
    """
    if f"{start}transformer.resblocks.0.ls_1.gamma" in shapes:
        raise UserError("blocks with a layer scale cannot be held")
    mlp_dim, width = shapes[f"{start}transformer.resblocks.0.mlp.c_fc.weight"]
    known = tower.get("heads")
    if known is None and "head_width" in tower:
        known = width // tower["head_width"]
    return c.transformer(
        width=width,
        depth=layers(shapes, f"{start}{_BLOCK}.mlp.c_fc.weight"),
        heads=known or heads(width, image=start == "visual."),
        mlp_dim=mlp_dim,
        activation=activation,
        ln_eps=tower.get("norm_kwargs", {}).get("eps", ln_eps),
    )


def text(shapes: Shapes, start: str, transformer: Json) -> Json:
    """Fields of a text tower's TextConfig."""
    return {
        "vocab_size": shapes[f"{start}token_embedding.weight"][0],
        "max_length": shapes[f"{start}positional_embedding"][0],
        "transformer": transformer,
    }


def blocks(ours: str, start: str) -> Entries:
    """Of a Stack's layers at `ours`."""
    theirs = f"{start}{_BLOCK}"
    return [
        *norm(f"{ours}/attention_norm", f"{theirs}.ln_1"),
        *fused_qkv(
            f"{ours}/attention", f"{theirs}.attn.in_proj_weight", f"{theirs}.attn.in_proj_bias"
        ),
        *linear(f"{ours}/attention/out", f"{theirs}.attn.out_proj"),
        *norm(f"{ours}/mlp_norm", f"{theirs}.ln_2"),
        *linear(f"{ours}/mlp/up", f"{theirs}.mlp.c_fc"),
        *linear(f"{ours}/mlp/down", f"{theirs}.mlp.c_proj"),
    ]


def text_entries(ours: str, start: str) -> Entries:
    """Of a ClipText at `ours`, without its projection."""
    return [
        *array(f"{ours}/word_embed", f"{start}token_embedding.weight"),
        *array(f"{ours}/position_embed", f"{start}positional_embedding"),
        *blocks(f"{ours}/stack/layers", start),
        *norm(f"{ours}/norm", f"{start}ln_final"),
    ]


def text_config(text: Json) -> Json:
    """What a config says of a text tower: "text_cfg"."""
    stack = text["transformer"]
    return {
        "context_length": text["max_length"],
        "vocab_size": text["vocab_size"],
        "width": stack["width"],
        "heads": stack["heads"],
        **_stack_config(stack),
    }


def _stack_config(stack: Json) -> Json:
    tanh = {"act_kwargs": {"approximate": "tanh"}} if stack["activation"] == "gelu_tanh" else {}
    return {
        "layers": stack["depth"],
        # Cut to a whole width there: never a hair too small.
        "mlp_ratio": math.ceil(stack["mlp_dim"] / stack["width"] * 1e4) / 1e4,
        "norm_kwargs": {"eps": stack["ln_eps"]},
        **tanh,
    }


def vision_config(vit: Json) -> Json:
    """The same of an image tower: "vision_cfg"."""
    stack = vit["transformer"]
    return {
        "image_size": vit["image_size"],
        "patch_size": vit["patch_size"],
        "width": stack["width"],
        "head_width": stack["width"] // stack["heads"],
        **_stack_config(stack),
    }
