"""The encoder of DALL-E's discrete VAE, FLAVA's image codebook: OpenAI's names, transformers'."""

from collections.abc import Sequence

import numpy as np

from rsvl_jax.models.dvae import BLOCKS, GROUPS
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.kinds import image_tokenizer
from rsvl_jax.weights.names import Entries, Entry, Shape, array

STRIDE = 8  # pixels to a word
IMAGE_SIZE = 112  # what FLAVA gives it, for 14 x 14 words
_OPENAI = {"weight": "w", "bias": "b", "group": "", "path": ""}
_HUGGINGFACE = {"weight": "weight", "bias": "bias", "group": "group.", "path": "path."}


def _layout(shapes: Shapes, start: str) -> dict[str, str]:
    return _OPENAI if f"{start}blocks.input.w" in shapes else _HUGGINGFACE


def settings(shapes: Shapes, start: str = "", image_size: int = IMAGE_SIZE) -> Json:
    """What `image_tokenizer.tokenizer` takes, of an encoder whose names begin with `start`."""
    weight = _layout(shapes, start)["weight"]
    width = shapes[f"{start}blocks.input.{weight}"][0]
    vocab_size = shapes[f"{start}blocks.output.conv.{weight}"][0]
    return {"image_size": image_size, "width": width, "vocab_size": vocab_size}


def there(shapes: Shapes, start: str = "") -> bool:
    """Whether an encoder's names begin with `start`."""
    return any(f"{start}blocks.input.{name}" in shapes for name in ("w", "weight"))


def entries(start: str, *, openai: bool) -> Entries:
    """Of the part "tokenizer", by names that begin with `start`."""
    names = _OPENAI if openai else _HUGGINGFACE
    found = _conv("tokenizer/stem", f"{start}blocks.input", names)
    for group in range(1, GROUPS + 1):
        for block in range(1, BLOCKS + 1):
            ours = f"tokenizer/group_{group}_block_{block}"
            theirs = f"{start}blocks.group_{group}.{names['group']}block_{block}"
            if block == 1 and group > 1:  # where the width changes
                found += _conv(f"{ours}/identity", f"{theirs}.id_path", names)
            for conv in range(1, 5):
                path = f"{theirs}.res_path.{names['path']}conv_{conv}"
                found += _conv(f"{ours}/conv_{conv}", path, names)
    return found + _conv("tokenizer/out", f"{start}blocks.output.conv", names)


def _conv(ours: str, theirs: str, names: dict[str, str]) -> Entries:
    """[out, in, h, w] there, [h, w, in, out] here."""

    def read(given: Sequence[np.ndarray], _: Shape) -> np.ndarray:
        return given[0].transpose(2, 3, 1, 0) if given[0].ndim == 4 else given[0]

    def write(value: np.ndarray) -> Sequence[np.ndarray]:
        return [value.transpose(3, 2, 0, 1)]

    kernel = Entry(f"{ours}/kernel", (f"{theirs}.{names['weight']}",), read, write)
    return [kernel, *array(f"{ours}/bias", f"{theirs}.{names['bias']}")]


def _model(shapes: Shapes, config: Json) -> Model:
    own = {"tokenizer": settings(shapes)}
    return Model("image_tokenizer", own, image_tokenizer.parts(own), {"image_size": IMAGE_SIZE})


def _config(settings: Json) -> Json:
    return {
        "architectures": ["FlavaImageCodebook"],
        "model_type": "flava_image_codebook",
        **codebook_config(settings["tokenizer"]),
    }


def codebook_config(tokenizer: Json) -> Json:
    """Fields of a FlavaImageCodebookConfig."""
    return {"hidden_size": tokenizer["width"], "vocab_size": tokenizer["vocab_size"]}


HUGGINGFACE = Family(
    name="image_tokenizer-huggingface",
    title="DALL-E's image tokenizer (transformers: FLAVA's image codebook)",
    recognises=lambda shapes: "blocks.input.weight" in shapes,
    model=_model,
    entries=lambda _: entries("", openai=False),
    config=_config,
    licence="MIT",
)
OPENAI = Family(
    name="dalle",
    title="DALL-E's image tokenizer (OpenAI)",
    recognises=lambda shapes: "blocks.input.w" in shapes,
    model=_model,
    entries=lambda _: entries("", openai=True),
    licence="MIT",
)
