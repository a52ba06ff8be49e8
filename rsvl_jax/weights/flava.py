"""FLAVA, whatever the names: which array is which, and the sizes, in terms of a layout."""

from collections.abc import Mapping
from dataclasses import dataclass

from rsvl_jax.weights import conventions as c
from rsvl_jax.weights import huggingface as hf
from rsvl_jax.weights.families import dalle
from rsvl_jax.weights.family import Json, Model, Shapes
from rsvl_jax.weights.kinds import flava as kind
from rsvl_jax.weights.names import (
    LAYER,
    Entries,
    Entry,
    array,
    layers,
    linear,
    moved,
    norm,
    patches,
    qkv,
    transposed,
    with_shape,
)

LN_EPS = 1e-12
LENGTH = 77  # of texts that it was trained on
BIASES = ("bias", "decoder.bias")  # one array under two names, of which files keep either or both
_CONFIGS = {"image": "image_config", "text": "text_config", "fusion": "multimodal_config"}


@dataclass(frozen=True)
class Layout:
    """Names of one kind of checkpoint.

    Attributes:
      towers: "image", "text", "fusion" -> what their names begin with.
      block: our name of a part of a block -> theirs, after "TOWERencoder.layer.N.".
      embed_norm: the norm of the text's embeddings, after its tower.
      heads: "mim_head" and so on -> what their names begin with.
      head: "dense", "norm" -> theirs, after the head.
      to_fusion, projections: "image", "text" -> a linear layer.
      scale: the logit scale.
      itm: "pooler", "classifier" -> a linear layer.
      codebook: what the names of the image tokenizer begin with; openai: it has OpenAI's names.
    """

    towers: Mapping[str, str]
    block: Mapping[str, str]
    embed_norm: str
    heads: Mapping[str, str]
    head: Mapping[str, str]
    to_fusion: Mapping[str, str]
    projections: Mapping[str, str]
    scale: str
    itm: Mapping[str, str]
    codebook: str
    openai: bool


def model(layout: Layout, shapes: Shapes, config: Json, head_eps: float, names: Json) -> Model:
    """The model that a checkpoint fills. names: what `layout` was made of, kept in its settings."""
    settings = _towers(layout, shapes, config)
    settings |= {"head_eps": head_eps, "names": names}
    heads = {ours: f"{theirs}decoder.weight" for ours, theirs in layout.heads.items()}
    settings["heads"] = {ours: shapes[name][0] for ours, name in heads.items() if name in shapes}
    settings["itm_head"] = f"{layout.itm['classifier']}.weight" in shapes
    projection = f"{layout.projections['image']}.weight"
    if projection in shapes:
        scaled = layout.scale in shapes
        settings["image_text"] = {"embed_dim": shapes[projection][0], "scaled": scaled}
    towers = layout.towers.items()
    settings["poolers"] = [n for n, start in towers if f"{start}pooler.dense.weight" in shapes]
    if dalle.there(shapes, layout.codebook):
        grid = settings["image"]["image_size"] // settings["image"]["patch_size"]
        settings["tokenizer"] = dalle.settings(shapes, layout.codebook, grid * dalle.STRIDE)
    size = settings["image"]["image_size"]
    preprocessing = c.preprocessing(size, c.CLIP_MEAN, c.CLIP_STD, resize="square")
    if config.get("image_pooling") == "mean":
        settings["image_pooling"] = "mean"  # of a FLAVARS run that was written as FLAVA
    length = min(LENGTH, settings["text"]["max_length"])
    tokenizer = {"kind": "wordpiece", "length": length, "lower_case": True}
    return Model("flava", settings, kind.parts(settings), preprocessing, tokenizer)


def _towers(layout: Layout, shapes: Shapes, config: Json) -> Json:
    image, text = layout.towers["image"], layout.towers["text"]
    patch = shapes[f"{image}embeddings.patch_embeddings.projection.weight"][2]
    positions = shapes[f"{image}embeddings.position_embeddings"][1]
    stacks = {name: _stack(layout, name, shapes, config) for name in kind.TOWERS}
    widths = {name: stack["width"] for name, stack in stacks.items()}
    return {
        "image": {
            "image_size": c.side(positions - 1) * patch,
            "patch_size": patch,
            "mask_token": f"{image}embeddings.mask_token" in shapes,
            "transformer": stacks["image"],
        },
        "text": {
            "vocab_size": shapes[f"{text}embeddings.word_embeddings.weight"][0],
            "max_length": shapes[f"{text}embeddings.position_embeddings.weight"][0],
            "transformer": stacks["text"],
        },
        "fusion": {
            "image_width": widths["image"],
            "text_width": widths["text"],
            "transformer": stacks["fusion"],
        },
    }


def _stack(layout: Layout, tower: str, shapes: Shapes, config: Json) -> Json:
    own = config.get(_CONFIGS[tower]) or {}
    start = f"{layout.towers[tower]}encoder.layer."
    mlp_dim, width = shapes[f"{start}0.{layout.block['up']}.weight"]
    return c.transformer(
        width=width,
        depth=layers(shapes, f"{start}{LAYER}.{layout.block['up']}.weight"),
        heads=own.get("num_attention_heads", hf.heads(width, image=False)),
        mlp_dim=mlp_dim,
        activation=c.activation(own.get("hidden_act", "gelu")),
        ln_eps=own.get("layer_norm_eps", LN_EPS),
    )


def entries(layout: Layout, settings: Json) -> Entries:
    """The map of names of a model with these settings."""
    found = [*_image(layout, settings), *_text(layout), *_fusion(layout)]
    biases = settings.get("names", {}).get("head_bias", BIASES)
    for name in settings.get("heads", {}):
        found += moved(_head(layout.head, biases), ours=name, theirs=layout.heads[name])
    if settings.get("itm_head"):
        for ours, theirs in layout.itm.items():
            found += linear(f"itm_head/{ours}", theirs)
    if pairs := settings.get("image_text"):
        for name, theirs in layout.projections.items():
            found += linear(f"image_text/{name}", theirs)
        found += array("image_text/scale/value", layout.scale) if pairs["scaled"] else []
    for name in settings.get("poolers", ()):
        found += linear(f"{name}_pooler", f"{layout.towers[name]}pooler.dense")
    if "tokenizer" in settings:
        found += dalle.entries(layout.codebook, openai=layout.openai)
    return found


def _image(layout: Layout, settings: Json) -> Entries:
    tower = layout.towers["image"]
    start = f"{tower}embeddings."
    found = [
        *patches("image/patch_embed", f"{start}patch_embeddings.projection"),
        *_token("image/class_token", f"{start}cls_token"),
        *with_shape(array("image/positions", f"{start}position_embeddings"), lambda s: (1, *s)),
        *_blocks(layout, "image"),
    ]
    if settings["image"].get("mask_token", True):
        found += _token("image/mask_token", f"{start}mask_token")
    return found


def _text(layout: Layout) -> Entries:
    tower = layout.towers["text"]
    found = norm("text/embed_norm", f"{tower}{layout.embed_norm}")
    for ours, theirs in (("word", "word"), ("position", "position"), ("type", "token_type")):
        found += array(f"text/{ours}_embed", f"{tower}embeddings.{theirs}_embeddings.weight")
    return found + _blocks(layout, "text")


def _fusion(layout: Layout) -> Entries:
    found = _token("fusion/class_token", f"{layout.towers['fusion']}cls_token")
    for name, theirs in layout.to_fusion.items():
        found += linear(f"fusion/{name}_projection", theirs)
    return found + _blocks(layout, "fusion")


def _token(ours: str, theirs: str) -> Entries:
    return with_shape(array(ours, theirs), lambda shape: (1, 1, *shape))


def _blocks(layout: Layout, tower: str) -> Entries:
    """Its blocks, and the norm after them."""
    ours, start = f"{tower}/stack/layers", layout.towers[tower]
    names = {key: f"{start}encoder.layer.{LAYER}.{name}" for key, name in layout.block.items()}
    return [
        *norm(f"{ours}/attention_norm", names["attention_norm"]),
        *qkv(f"{ours}/attention", names["query"], names["key"], names["value"]),
        *linear(f"{ours}/attention/out", names["out"]),
        *norm(f"{ours}/mlp_norm", names["mlp_norm"]),
        *linear(f"{ours}/mlp/up", names["up"]),
        *linear(f"{ours}/mlp/down", names["down"]),
        *norm(f"{tower}/norm", f"{start}layernorm"),
    ]


def _head(names: Mapping[str, str], biases: list[str] | tuple[str, ...]) -> Entries:
    """A MaskedTokenHead. The bias is the same under each of its names."""
    bias = Entry(
        "decoder/bias",
        tuple(biases),
        lambda given, _: given[0],
        lambda value: [value] * len(biases),
    )
    return [
        *linear("dense", names["dense"]),
        *norm("norm", names["norm"]),
        *transposed("decoder/kernel", "decoder.weight"),
        bias,
    ]


def head_bias(layout: Layout, shapes: Shapes) -> list[str]:
    """Which of BIASES a checkpoint has."""
    starts = [start for start in layout.heads.values() if f"{start}decoder.weight" in shapes]
    return [name for name in BIASES if all(f"{start}{name}" in shapes for start in starts)]
