"""What CLIP and SigLIP share in `transformers`: blocks, text towers, and what configs say of them.

`start` is what stands before a tower's names, such as "vision_model.".
"""

from collections.abc import Sequence

from rsvl_jax.weights import conventions as c
from rsvl_jax.weights.family import Json, Shapes
from rsvl_jax.weights.names import LAYER, Entries, array, layers, linear, norm, qkv

HEAD_WIDTH = 64  # of most published towers, where no config tells
# The others: SO400M/14 (both towers); H/14, g/14, giant-opt/16 and bigG/14 (their image towers).
_HEADS = {1152: 16}
_IMAGE_HEADS = {1280: 16, 1408: 16, 1536: 16, 1664: 16}
_WORDS = "embeddings.token_embedding.weight"
_POSITIONS = "embeddings.position_embedding.weight"


def heads(width: int, *, image: bool) -> int:
    """Heads of a published tower of that width."""
    known = _HEADS | (_IMAGE_HEADS if image else {})
    return known.get(width, max(width // HEAD_WIDTH, 1))


def stack(shapes: Shapes, start: str, config: Json, activation: str, ln_eps: float) -> Json:
    """Fields of a tower's TransformerConfig; the config's words, else the given ones."""
    mlp_dim, width = shapes[f"{start}encoder.layers.0.mlp.fc1.weight"]
    image = f"{start}embeddings.patch_embedding.weight" in shapes
    return c.transformer(
        width=width,
        depth=layers(shapes, f"{start}encoder.layers.{LAYER}.mlp.fc1.weight"),
        heads=config.get("num_attention_heads", heads(width, image=image)),
        mlp_dim=mlp_dim,
        activation=c.activation(config["hidden_act"]) if "hidden_act" in config else activation,
        ln_eps=config.get("layer_norm_eps", ln_eps),
    )


def text(shapes: Shapes, start: str, transformer: Json) -> Json:
    """Fields of a text tower's TextConfig."""
    vocab_size, max_length = (shapes[f"{start}{name}"][0] for name in (_WORDS, _POSITIONS))
    return {"vocab_size": vocab_size, "max_length": max_length, "transformer": transformer}


def blocks(ours: str, start: str) -> Entries:
    """Of a Stack's layers at `ours`."""
    theirs = f"{start}encoder.layers.{LAYER}"
    return [
        *norm(f"{ours}/attention_norm", f"{theirs}.layer_norm1"),
        *qkv(f"{ours}/attention", *(f"{theirs}.self_attn.{name}_proj" for name in "qkv")),
        *linear(f"{ours}/attention/out", f"{theirs}.self_attn.out_proj"),
        *norm(f"{ours}/mlp_norm", f"{theirs}.layer_norm2"),
        *linear(f"{ours}/mlp/up", f"{theirs}.mlp.fc1"),
        *linear(f"{ours}/mlp/down", f"{theirs}.mlp.fc2"),
    ]


def text_entries(ours: str, start: str) -> Entries:
    """Of a ClipText at `ours`, without its projection."""
    return [
        *array(f"{ours}/word_embed", f"{start}{_WORDS}"),
        *array(f"{ours}/position_embed", f"{start}{_POSITIONS}"),
        *blocks(f"{ours}/stack/layers", start),
        *norm(f"{ours}/norm", f"{start}final_layer_norm"),
    ]


def stack_config(transformer: Json) -> Json:
    """What a tower's config says of its blocks."""
    return {
        "hidden_size": transformer["width"],
        "intermediate_size": transformer["mlp_dim"],
        "num_hidden_layers": transformer["depth"],
        "num_attention_heads": transformer["heads"],
        "hidden_act": c.activation_name(transformer["activation"]),
        "layer_norm_eps": transformer["ln_eps"],
    }


def image_config(vit: Json) -> Json:
    """The same of an image tower, its sizes too."""
    sizes = {"image_size": vit["image_size"], "patch_size": vit["patch_size"], "num_channels": 3}
    return stack_config(vit["transformer"]) | sizes


def text_config(text: Json) -> Json:
    """The same of a text tower."""
    sizes = {"vocab_size": text["vocab_size"], "max_position_embeddings": text["max_length"]}
    return stack_config(text["transformer"]) | sizes


def towers_config(
    kind: str, names: Sequence[str], image: Json | None, text: Json | None, both: Json
) -> Json:
    """config.json of both towers, or of one. names: their classes, [both, image, text]."""
    if image is not None and text is not None:
        own = {"vision_config": image, "text_config": text, **both}
        return {"architectures": [names[0]], "model_type": kind, **own}
    tower, name = ("vision", names[1]) if image is not None else ("text", names[2])
    own = image if image is not None else text or {}
    return {"architectures": [name], "model_type": f"{kind}_{tower}_model", **own}
