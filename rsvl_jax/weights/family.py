"""A family of checkpoints: how it is recognised, which model it is, and its map of names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rsvl_jax.models.functional import Make
from rsvl_jax.weights.names import Entries, Shape

Json = dict[str, Any]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True)
class Model:
    """A model of ours that a checkpoint fills.

    Attributes:
      kind: what `rsvl_jax.load` makes of it: "clip", "flava", "vit", "text", "location", "graft",
        "image_tokenizer".
      settings: JSON from which `parts` can be made again: sizes, activation, norms, pooling.
      parts: name -> maker of a module; its parameters are at that name in our tree.
      preprocessing: image size, mean, std, resize and crop; {} where it takes no images.
      tokenizer: kind and options of the tokenizer that its texts need; {} without texts.
    """

    kind: str
    settings: Json
    parts: Mapping[str, Make]
    preprocessing: Json = field(default_factory=dict)
    tokenizer: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One layout of names that people publish.

    Attributes:
      name: as in `--family`, such as "clip-openai".
      title: for people.
      recognises: (shapes by name) -> whether these names are this family's.
      model: (shapes by name, their config.json or {}) -> the model, its sizes from the shapes where
        that can be. Raises UserError for a checkpoint of the family that cannot be held.
      entries: (the model's settings) -> the map of names.
      config: (the model's settings) -> their config.json, for export; None where there is none.
      ignored: beginnings of names that hold nothing to load, such as buffers of positions.
      licence: of the published weights, where one licence holds for the family.
    """

    name: str
    title: str
    recognises: Callable[[Shapes], bool]
    model: Callable[[Shapes, Json], Model]
    entries: Callable[[Json], Entries]
    config: Callable[[Json], Json] | None = None
    ignored: tuple[str, ...] = ()
    licence: str = ""
