"""What the tasks of a suite share: the tiles, the model's features, and the card to fill in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jax.sharding import Mesh

from rsvl_jax.evaluation.bootstrap import Blocks
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.evaluation.tiles import Tiles
from rsvl_jax.evaluation.zeroshot import Class, names_of

UNTRAINED = "untrained encoder"
MAJORITY = "majority class"


@dataclass(frozen=True)
class Setting:
    """What all tasks share.

    Attributes:
      train, test: tiles to learn from (neighbours, linear heads) and tiles that are scored.
      classes, templates: land-cover classes (a name or its synonyms) and prompts with "{c}".
      pixel_classes: names of the mask classes 0, 1, ...
      blocks: draws for the intervals, None for none.
      card: template with data set, split and provenance.
      reference_features: what baselines see of the train and test tiles, see
        `references.features`; None leaves out every reference but chance.
      batch_size: global, of the encoders.
      topic: what the labels are, in words.
      note: what a reader of zero-shot scores must know, or "".
    """

    train: Tiles
    test: Tiles
    classes: Sequence[Class]
    templates: Sequence[str]
    pixel_classes: tuple[str, ...]
    blocks: Blocks | None
    card: Card
    reference_features: Mapping[str, tuple[np.ndarray, np.ndarray]] | None
    batch_size: int
    mesh: Mesh
    topic: str = "land cover"
    note: str = (
        "captions and labels come from one land-cover raster: partly measures that agreement"
    )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The first name of each land-cover class."""
        return tuple(names_of(entry)[0] for entry in self.classes)


@dataclass(frozen=True)
class Model:
    """Encoders and the features they give to the train and test tiles, see `features.extract`."""

    encoders: Encoders
    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]


def start_card(setting: Setting, model: Model, task: str, title: str, **protocol: object) -> Card:
    """The suite's card for a task, with the encoders' protocol and the task's own."""
    shown = {**model.encoders.protocol, **protocol}
    return replace(setting.card, task=task, title=title, protocol=shown)
