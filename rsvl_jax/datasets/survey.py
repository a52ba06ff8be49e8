"""What is in a built data set, counted for people: sizes, words, tags, places, repeats."""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from rsvl_jax.data.transforms import CorruptImage, decode
from rsvl_jax.datasets import store
from rsvl_jax.datasets.image_text.alike import DISTANCE, repeats
from rsvl_jax.datasets.image_text.images import perceptual_hash
from rsvl_jax.errors import UserError

Record = Mapping[str, Any]

_WORD = re.compile(r"[^\W\d_]{2,}")
# Words that say nothing of what is in a picture.
_FILLING = """the of in on at by to and or is are was be it its with from this that there an as for
near some about most km into over between which has have can one two"""
_FILLERS = frozenset(_FILLING.split())


@dataclass
class Survey:
    """What the records that were read hold.

    Attributes:
      manifest: of the data set.
      read: records looked at, by split.
      sizes: width and height of images, pixels, and how often.
      lengths: words of a caption, and how often.
      captions_each: captions of a record, and how often.
      words, tags, labels: how often each.
      captions: how often each caption, by its words.
      places: split -> (lon, lat) of the records that have one.
      hashes: perceptual hash, split and number of every image.
      unreadable: ids of records whose image cannot be decoded.
      boxed: records with boxes.
    """

    manifest: Mapping[str, Any]
    read: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    captions_each: Counter[int] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    captions: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    hashes: list[tuple[int, str, int]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    boxed: int = 0

    def add(self, split: str, number: int, record: Record) -> None:
        """Takes in a record."""
        self.read[split] += 1
        self._add_image(split, number, record)
        texts = list(captions(record))
        self.captions_each[len(texts)] += 1
        for text in texts:
            words = text.split()
            self.lengths[len(words)] += 1
            self.captions[" ".join(words)] += 1
            found = {word.lower() for word in _WORD.findall(text)}
            self.words.update(found - _FILLERS)
        self.tags.update(set(_tags(record.get("tags", ""))))
        classes = self.manifest.get("classes", ())
        if 0 <= record.get("label", -1) < len(classes):
            self.labels[str(classes[record["label"]])] += 1
        if not math.isnan(record.get("lon", math.nan)):
            self.places.setdefault(split, []).append((record["lon"], record["lat"]))
        self.boxed += bool(len(record.get("boxes", ())))

    def _add_image(self, split: str, number: int, record: Record) -> None:
        if not record.get("image"):
            return
        try:
            pixels = decode(record["image"])
        except CorruptImage:
            self.unreadable.append(str(record.get("id", number)))
            return
        self.sizes[pixels.shape[1], pixels.shape[0]] += 1
        grey = pixels.mean(axis=2).astype(np.uint8)
        self.hashes.append((perceptual_hash(grey, record["image"]), split, number))

    @property
    def alike(self) -> list[list[tuple[str, int]]]:
        """Groups of records whose images look alike, as a build sees it, the largest first."""
        hashes = np.array([known[0] for known in self.hashes], np.uint64)
        groups: dict[int, list[tuple[str, int]]] = {}
        for first, known in zip(repeats(hashes, DISTANCE), self.hashes, strict=True):
            groups.setdefault(int(first), []).append(known[1:])
        return sorted((g for g in groups.values() if len(g) > 1), key=lambda group: -len(group))

    @property
    def repeated(self) -> list[tuple[str, int]]:
        """Captions that come more than once, the most frequent first."""
        return [(text, count) for text, count in self.captions.most_common() if count > 1]


def survey(name: str, data_dir: str, most: int) -> Survey:
    """Reads a data set: at most about `most` records, evenly spaced, of each split its share."""
    found = Survey(store.manifest(name, data_dir))
    splits = {split: count for split, count in found.manifest["splits"].items() if count}
    if not splits:
        raise UserError(f"data set {name!r} has no records")
    total = sum(splits.values())
    for split, count in splits.items():
        source = store.load(name, data_dir, split)
        numbers = spaced(count, max(1, most * count // total))
        for number in tqdm(numbers, f"reading {split}", unit="record", leave=False):
            found.add(split, int(number), source[int(number)])
    return found


def spaced(length: int, count: int) -> np.ndarray:
    """Evenly spaced record numbers, int64 [min(count, length)]; the same on every call."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(np.int64))


def captions(record: Record) -> Iterable[str]:
    """The texts of a record, those of its photos where the tile has none."""
    if "captions" in record:
        return record["captions"]
    return [text for texts in record.get("photo_captions", ()) for text in texts]


def _tags(text: str) -> Iterator[str]:
    """ "key=value" of all that is in the JSON of tags, however deep."""
    if text:
        yield from _pairs(json.loads(text))


def _pairs(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(inner, Mapping | list):
                yield from _pairs(inner)
            else:
                yield f"{key}={inner}"
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _pairs(inner)
