"""What BERT and RoBERTa share in `transformers`: names, and the model that they make of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights import conventions as c
from rsvl_jax.weights.family import Json, Model, Shapes
from rsvl_jax.weights.huggingface import heads
from rsvl_jax.weights.kinds import text
from rsvl_jax.weights.names import (
    LAYER,
    Entries,
    Entry,
    Shape,
    array,
    layers,
    linear,
    prefix,
    qkv,
    transposed,
)

NOT_HELD = ("pooler.", "embeddings.position_ids", "embeddings.token_type_ids")
_WORDS = "embeddings.word_embeddings.weight"
_BLOCK = f"encoder.layer.{LAYER}."


@dataclass(frozen=True)
class Layout:
    """Where the two differ.

    Attributes:
      key: what names begin with in a model that has more than the encoder.
      head, dense, norm: names of the masked-language head and of its layers.
      positions: rows of the table before the first token's; RoBERTa numbers padding 1.
      ln_eps: without a config.
      tokenizer: its kind.
    """

    key: str
    head: str
    dense: str
    norm: str
    positions: int
    ln_eps: float
    tokenizer: str


def start(shapes: Shapes) -> str | None:
    """What stands before the encoder's names; None where there is no such encoder."""
    found = prefix(shapes, _WORDS)
    if found is None or f"{found}encoder.layer.0.attention.self.query.weight" not in shapes:
        return None
    return found


def model(layout: Layout, shapes: Shapes, config: Json) -> Model:
    """Encoder, and head where there is one. UserError for what is not this kind of encoder."""
    where = start(shapes)
    if where is None:
        raise UserError(f"no {_WORDS!r} with the layers of {layout.key}: another family?")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f"positions are {config['position_embedding_type']!r}: only absolute ones can be held"
        )
    vocab_size, width = shapes[f"{where}{_WORDS}"]
    transformer = c.transformer(
        width=width,
        depth=layers(shapes, f"{where}{_BLOCK}output.dense.weight"),
        heads=config.get("num_attention_heads", heads(width, image=False)),
        mlp_dim=shapes[f"{where}encoder.layer.0.intermediate.dense.weight"][0],
        activation=c.activation(config.get("hidden_act", "gelu")),
        ln_eps=config.get("layer_norm_eps", layout.ln_eps),
    ) | {"norm": "post"}
    length = shapes[f"{where}embeddings.position_embeddings.weight"][0] - layout.positions
    settings: Json = {
        "text": {
            "vocab_size": vocab_size,
            "max_length": length,
            "token_types": shapes[f"{where}embeddings.token_type_embeddings.weight"][0],
            "transformer": transformer,
        },
        "names": _names(layout, shapes, where),
    }
    if f"{layout.head}{layout.dense}.weight" in shapes:
        options = ("activation", "ln_eps")
        settings["mlm_head"] = {option: transformer[option] for option in options}
    tokenizer = {"kind": layout.tokenizer, "length": length}
    return Model("text", settings, text.parts(settings), tokenizer=tokenizer)


def _names(layout: Layout, shapes: Shapes, where: str) -> Json:
    """Which of the ways to write the same names this checkpoint has."""
    return {
        "start": where,
        # As variables of the first release were called.
        "gamma": f"{where}embeddings.LayerNorm.gamma" in shapes,
        "tied": f"{layout.head}decoder.weight" not in shapes,
        "bias": [
            name for name in (f"{layout.head}bias", f"{layout.head}decoder.bias") if name in shapes
        ],
    }


def entries(layout: Layout, settings: Json) -> Entries:
    """The map of names."""
    own = settings.get("names", {})
    where, gamma = own.get("start", f"{layout.key}."), own.get("gamma", False)
    embeddings, block = f"{where}embeddings", f"{where}{_BLOCK}"
    ours = "text/stack/layers"
    return [
        *(_head(layout, own, where) if "mlm_head" in settings else []),
        *array("text/word_embed", f"{where}{_WORDS}"),
        *_positions(f"{embeddings}.position_embeddings.weight", layout.positions),
        *array("text/type_embed", f"{embeddings}.token_type_embeddings.weight"),
        *_norm("text/embed_norm", f"{embeddings}.LayerNorm", gamma),
        *qkv(
            f"{ours}/attention",
            *(f"{block}attention.self.{name}" for name in ("query", "key", "value")),
        ),
        *linear(f"{ours}/attention/out", f"{block}attention.output.dense"),
        *_norm(f"{ours}/attention_norm", f"{block}attention.output.LayerNorm", gamma),
        *linear(f"{ours}/mlp/up", f"{block}intermediate.dense"),
        *linear(f"{ours}/mlp/down", f"{block}output.dense"),
        *_norm(f"{ours}/mlp_norm", f"{block}output.LayerNorm", gamma),
    ]


def _norm(ours: str, theirs: str, gamma: bool) -> Entries:
    names = ("gamma", "beta") if gamma else ("weight", "bias")
    return [
        entry
        for own, name in zip(("scale", "bias"), names, strict=True)
        for entry in array(f"{ours}/{own}", f"{theirs}.{name}")
    ]


def _head(layout: Layout, own: Json, where: str) -> Entries:
    """Its decoder may be the word embeddings, which are then read twice. Ours are two arrays: what
    training makes of the decoder has no place in a tied layout, so the words, which come after in
    `entries`, are what is written."""
    decoder = f"{where}{_WORDS}" if own.get("tied") else f"{layout.head}decoder.weight"
    biases = tuple(own.get("bias") or (f"{layout.head}bias",))
    norm = _norm("mlm_head/norm", f"{layout.head}{layout.norm}", own.get("gamma", False))
    bias = Entry(
        "mlm_head/decoder/bias",
        biases,
        lambda given, _: given[0],
        lambda value: [value] * len(biases),
    )
    dense = linear("mlm_head/dense", f"{layout.head}{layout.dense}")
    return [*dense, *norm, *transposed("mlm_head/decoder/kernel", decoder), bias]


def _positions(theirs: str, skipped: int) -> Entries:
    """The table without its first rows, which no token of a text has; written as zeros."""

    def read(given: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
        return given[0][skipped:]

    def write(value: np.ndarray) -> Sequence[np.ndarray]:
        return [np.pad(value, ((skipped, 0), (0, 0)))]

    return [Entry("text/position_embed", (theirs,), read, write)]
