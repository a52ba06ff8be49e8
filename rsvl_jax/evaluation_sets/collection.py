"""What every layout is read into: one split of a data set, its pixels left where they are."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

IGNORE = 255  # in masks: a pixel that is not scored


class Rows(Protocol):
    """Anything with a length and items that are arrays, read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Question:
    """A question about one image.

    Attributes:
      image: row of the image in the collection.
      text: the question.
      answer: as the data set writes it.
      kind: its type, such as "count" or "presence".
      id: of the question, in the data set.
    """

    image: int
    text: str
    answer: str
    kind: str
    id: str = ""


@dataclass(frozen=True)
class Collection:
    """n images of one split, and what is known of each.

    Attributes:
      name, split: such as "eurosat" and "test".
      ids: n names, distinct; paths relative to the root where images are files.
      images: row -> uint8 [H,W,3], RGB; sizes may differ from row to row.
      labels: int32 [n], index into `classes`; or bool [n,C] where an image has several; or None.
      classes: names as the data set spells them.
      captions: of each image one or more; () where the data set has none.
      masks: row -> uint8 [H,W], index into `pixel_classes` or IGNORE; or None.
      pixel_classes: names of the mask classes 0, 1, ...
      lon, lat: float64 [n], degrees, NaN where unknown; or None.
      blocks: int64 [n], what is resampled together for intervals (a scene, a geographic block);
        None: each image alone.
      questions: about the images.
      bands: row -> float32 [H,W,C], all bands as they are in the file; None where it has but RGB.
      band_names: of the C bands.
      dropped: why -> how many records of the split were left out.
      protocol: what a card must say of the reading: where the split comes from, bands, scaling.
    """

    name: str
    split: str
    ids: tuple[str, ...]
    images: Rows
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()
    masks: Rows | None = None
    pixel_classes: tuple[str, ...] = ()
    lon: np.ndarray | None = None
    lat: np.ndarray | None = None
    blocks: np.ndarray | None = None
    questions: tuple[Question, ...] = ()
    bands: Rows | None = None
    band_names: tuple[str, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def multilabel(self) -> bool:
        """Whether an image can have several labels."""
        return self.labels is not None and self.labels.ndim == 2

    def fingerprint(self) -> str:
        """Hash of the ids in order, 12 hex digits: the same images, the same fingerprint."""
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()[:12]
