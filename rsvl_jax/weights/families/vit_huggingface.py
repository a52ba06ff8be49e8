"""Image towers as `transformers` keeps them: ViT, ViT-MAE with its decoder, DINOv2.

Checkpoints have the long names of attention; `state_dict()` of `transformers` 5 has short ones.
"""

from rsvl_jax.errors import UserError
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights import vit_names as v
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.huggingface import heads, image_config
from rsvl_jax.weights.names import (
    LAYER,
    Entries,
    array,
    layers,
    linear,
    norm,
    patches,
    qkv,
)

_STARTS = ("", "vit.", "dinov2.", "dinov2_with_registers.")
_CLASS = "embeddings.cls_token"
_PATCHES = "embeddings.patch_embeddings.projection"
_POSITIONS = "embeddings.position_embeddings"
_NOT_HELD = {
    "mlp.weights_in.weight": "a SwiGLU (of DINOv2's giant)",
    "relative_position_bias_table": "biases of relative positions (of BEiT)",
    "distillation_token": "a token of distillation (of DeiT)",
}
_ENDINGS = ("attention.attention.query.weight", "attention.q_proj.weight")
_STACKS = ("encoder.layer", "layers")


def _start(shapes: Shapes) -> str | None:
    """What stands before the names; towers inside of other models are those models' matter."""
    names = (_CLASS, f"{_PATCHES}.weight")
    return next((s for s in _STARTS if all(f"{s}{name}" in shapes for name in names)), None)


def _stack_of(shapes: Shapes, options: tuple[str, ...]) -> Json:
    """Which of the names its blocks have: {"blocks": "encoder.layer", "short": bool}."""
    for name in options:
        for ending in _ENDINGS:
            if f"{name}.0.{ending}" in shapes:
                return {"blocks": name, "short": ending == _ENDINGS[1]}
    raise UserError(f"no {options[0] + '.0.' + _ENDINGS[0]!r}: a tower of another kind?")


def _is_dinov2(shapes: Shapes, names: Json) -> bool:
    return f"{names['blocks']}.0.layer_scale1.lambda1" in shapes


def _transformer(shapes: Shapes, names: Json, config: Json, number: int | None) -> Json:
    first = f"{names['blocks']}.0."
    mlp = "mlp.fc1" if f"{first}mlp.fc1.weight" in shapes else "intermediate.dense"
    query = f"{first}{_ENDINGS[names['short']]}".replace(".weight", ".bias")
    if query not in shapes:
        raise UserError(f"no {query!r}: attention without biases cannot be held")
    mlp_dim, width = shapes[f"{first}{mlp}.weight"]
    ln_eps = config.get("layer_norm_eps", 1e-6 if _is_dinov2(shapes, names) else 1e-12)
    stack = c.transformer(
        width=width,
        depth=layers(shapes, f"{names['blocks']}.{LAYER}.{mlp}.weight"),
        heads=number or heads(width, image=True),
        mlp_dim=mlp_dim,
        activation=c.activation(config.get("hidden_act", "gelu")),
        ln_eps=ln_eps,
    )
    return stack | ({"layer_scale": True} if _is_dinov2(shapes, names) else {})


def _model(shapes: Shapes, config: Json) -> Model:
    start = _start(shapes)
    if start is None:
        raise UserError(f"no {_CLASS!r} beside {_PATCHES!r}: a tower of another kind?")
    v.refuse(shapes, _NOT_HELD)
    names = _stack_of(shapes, tuple(f"{start}{name}" for name in _STACKS))
    table = shapes[f"{start}{_POSITIONS}"]
    mae = "decoder.decoder_pred.weight" in shapes or config.get("model_type") == "vit_mae"
    own = v.image(
        _transformer(shapes, names, config, config.get("num_attention_heads")),
        shapes[f"{start}{_PATCHES}.weight"],
        table,
        kind="table" if mae else "learned",
    )
    own["mask_token"] = f"{start}embeddings.mask_token" in shapes
    if registers := shapes.get(f"{start}embeddings.register_tokens"):
        own["registers"] = registers[-2]
    settings: Json = {"image": own, "names": {"huggingface": {"start": start, **names}}}
    if own["mask_token"]:
        settings["names"]["huggingface"]["mask"] = len(shapes[f"{start}embeddings.mask_token"])
    if "decoder.decoder_pred.weight" in shapes:
        inner = _stack_of(shapes, ("decoder.decoder_layers",))
        number = config.get("decoder_num_attention_heads", v.DECODER_HEADS)
        settings["decoder"] = v.decoder(own, _transformer(shapes, inner, config, number))
    return v.model(settings)


def _entries(settings: Json) -> Entries:
    own = settings["image"]
    names = settings.get("names", {}).get("huggingface", {"start": ""})
    start = names["start"]
    _check(own)
    found = [
        *v.token("image/class_token", f"{start}{_CLASS}"),
        *v.table("image/positions", f"{start}{_POSITIONS}"),
        *patches("image/patch_embed", f"{start}{_PATCHES}"),
        *_blocks("image/stack/layers", names, own["transformer"]),
        *norm("image/norm", f"{start}layernorm"),
    ]
    if own.get("mask_token", True):
        mask = names.get("mask", 3)
        found += v.token("image/mask_token", f"{start}embeddings.mask_token", mask)
    if own.get("registers"):
        found += v.table("image/registers", f"{start}embeddings.register_tokens")
    if "decoder" in settings:
        found += _decoder(settings["decoder"], names)
    return found


def _decoder(own: Json, names: Json) -> Entries:
    blocks = {**names, "blocks": "decoder.decoder_layers"}
    return [
        *linear("decoder/embed", "decoder.decoder_embed"),
        *v.token("decoder/mask_token", "decoder.mask_token"),
        *_blocks("decoder/stack/layers", blocks, own["transformer"]),
        *norm("decoder/norm", "decoder.decoder_norm"),
        *linear("decoder/out", "decoder.decoder_pred"),
    ]


def _blocks(ours: str, names: Json, transformer: Json) -> Entries:
    theirs, short = f"{names.get('blocks', _STACKS[0])}.{LAYER}", names.get("short", False)
    scaled = transformer.get("layer_scale", False)
    attention = f"{theirs}.attention" if short else f"{theirs}.attention.attention"
    parts = ("q_proj", "k_proj", "v_proj") if short else ("query", "key", "value")
    mlp = ("mlp.fc1", "mlp.fc2") if short or scaled else ("intermediate.dense", "output.dense")
    norms = ("norm1", "norm2") if scaled else ("layernorm_before", "layernorm_after")
    out = "attention.o_proj" if short else "attention.output.dense"
    found = [
        *norm(f"{ours}/attention_norm", f"{theirs}.{norms[0]}"),
        *qkv(f"{ours}/attention", *(f"{attention}.{part}" for part in parts)),
        *linear(f"{ours}/attention/out", f"{theirs}.{out}"),
        *norm(f"{ours}/mlp_norm", f"{theirs}.{norms[1]}"),
        *linear(f"{ours}/mlp/up", f"{theirs}.{mlp[0]}"),
        *linear(f"{ours}/mlp/down", f"{theirs}.{mlp[1]}"),
    ]
    if scaled:
        found += array(f"{ours}/attention_scale", f"{theirs}.layer_scale1.lambda1")
        found += array(f"{ours}/mlp_scale", f"{theirs}.layer_scale2.lambda1")
    return found


def _check(own: Json) -> None:
    """Raises UserError for a tower that `transformers` has no class for."""
    if own.get("stem_norm") or not own.get("class_token", True):
        raise UserError("a tower with a norm before its blocks, or no class token, is no ViTModel")
    if own["positions"] == "sincos":
        raise UserError("positions that are computed have no place in a ViTModel")


def _config(settings: Json) -> Json:
    own = settings["image"]
    _check(own)
    kind, classes = "vit", ["ViTModel"]
    if "decoder" in settings:
        kind, classes = "vit_mae", ["ViTMAEForPreTraining"]
    elif own["transformer"].get("layer_scale"):
        kind, classes = "dinov2", ["Dinov2Model"]
    if own.get("registers"):
        kind, classes = "dinov2_with_registers", ["Dinov2WithRegistersModel"]
    config = image_config(own) | {"model_type": kind, "architectures": classes, "qkv_bias": True}
    if kind == "vit_mae":
        stack = image_config({**own, "transformer": settings["decoder"]["transformer"]})
        config |= {
            f"decoder_{name}": stack[name]
            for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
        }
        config["decoder_num_attention_heads"] = stack["num_attention_heads"]
    if own.get("registers"):
        config["num_register_tokens"] = own["registers"]
    if kind.startswith("dinov2"):
        width = own["transformer"]["width"]
        config["mlp_ratio"] = own["transformer"]["mlp_dim"] / width
    return config


FAMILY = Family(
    name="vit-huggingface",
    title="ViT, ViT-MAE or DINOv2 (transformers)",
    recognises=lambda shapes: _start(shapes) is not None,
    model=_model,
    entries=_entries,
    config=_config,
    # Poolers, classifiers, and the decoder's table of positions, which is computed.
    ignored=("pooler.", "vit.pooler.", "classifier.", "decoder.decoder_pos_embed"),
)
