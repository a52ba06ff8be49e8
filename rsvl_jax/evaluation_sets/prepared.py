"""Data sets as TFDS prepares them: dataset_info.json, features.json and the shards, in ArrayRecord
or TFRecord files. TensorFlow is not needed to read them.

TFDS has a single split of EuroSAT, RESISC45 and UC Merced: lists of names split it, see `splits`.
"""

import glob
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import pictures, splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.folders import plain
from rsvl_jax.evaluation_sets.known import Known
from rsvl_jax.evaluation_sets.pictures import RULES
from rsvl_jax.evaluation_sets.shards import INFO, Records, json_of, open_shards
from rsvl_jax.rasters.sensors import SENSORS

_FEATURES = "features.json"


@dataclass(frozen=True)
class _Layout:
    """Names of the features of a record, and the classes.

    Attributes:
      image: of an encoded image, or of values [H,W,C] of `shape`. several: whether `label` is a
        sequence. file: of the file's name; "" where there is none.
    """

    image: str
    label: str
    file: str
    classes: tuple[str, ...]
    several: bool
    shape: tuple[int, ...] | None


def is_there(root: str) -> bool:
    """Whether a folder is of this layout, or holds just one that is."""
    return bool(_infos(root))


def read(known: Known, root: str, split: str, rule: str = "", added: int = 0) -> Collection:
    """A split. Raises UserError for shards that are missing or damaged, features without image or
    label, and what `splits` raises."""
    split, folder = splits.spelt(split), _folder(root)
    layout = _layout(folder, known)
    shards = open_shards(folder)
    names, labels, records = _scan(shards, layout)
    has_own = len(shards) > 1
    rule = splits.rule_of(known, root, has_own, split, rule)
    if rule == splits.OWN and split not in (splits.ALL, *shards):
        raise UserError(f"{folder!r} has no {split} split, but {', '.join(shards)}")
    classes = _classes(known, layout)
    of_class = [str(label) for label in labels]
    rows = splits.chosen(names, of_class, known, root, split, rule)
    images = _Images(records, tuple(rows), layout, known.sensor, added)
    return Collection(
        name=known.name,
        split=split,
        ids=tuple(names[row] for row in rows),
        images=images,
        labels=_coded([labels[row] for row in rows], layout, classes),
        classes=classes,
        bands=_Values(images) if layout.shape else None,
        band_names=known.bands if layout.shape else (),
        protocol={
            **splits.told(known, root, split, rule),
            "images_in_all": len(names),
            "images_expected": known.images,
            "pixels": "by the sensor table" if layout.shape else RULES,
        },
    )


def _infos(root: str) -> list[str]:
    found = [
        path
        for below in ("", "*/", "*/*/")
        for path in glob.glob(os.path.join(glob.escape(root), f"{below}{INFO}"))
    ]
    return [os.path.dirname(path) for path in found]


def _folder(root: str) -> str:
    found = _infos(root)
    if len(found) != 1:
        names = ", ".join(sorted(os.path.relpath(path, root) for path in found)) or "none"
        raise UserError(f"{root!r} holds several prepared data sets, give one of them: {names}")
    return found[0]


def _layout(folder: str, known: Known) -> _Layout:
    path = os.path.join(folder, _FEATURES)
    features = json_of(path).get("featuresDict", {}).get("features", {})
    images = [name for name, of in features.items() if "image" in of]
    values = [name for name, of in features.items() if len(_shape(of)) == 3]
    labels = [name for name, of in features.items() if "classLabel" in _inner(of)]
    image = ([name for name in images if name == "image"] or images or values or [""])[0]
    if not image or len(labels) != 1:
        raise UserError(f"{path!r} has {len(labels)} labels and the image {image!r}: one of each")
    several = "classLabel" not in features[labels[0]]
    return _Layout(
        image=image,
        label=labels[0],
        file="filename" if "text" in features.get("filename", {}) else "",
        classes=_names(folder, labels[0]),
        several=several,
        shape=None if "image" in features[image] else _shape(features[image]),
    )


def _inner(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    return feature.get("sequence", {}).get("feature", feature)


def _shape(feature: Mapping[str, Any]) -> tuple[int, ...]:
    written = feature.get("tensor", {}).get("shape", {}).get("dimensions", ())
    return tuple(int(length) for length in written)


def _names(folder: str, label: str) -> tuple[str, ...]:
    for name in (f"{label}.labels.txt", f"{label}-feature.labels.txt"):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                return tuple(line.strip() for line in file if line.strip())
    raise UserError(f"no {os.path.join(folder, label)}.labels.txt: the names of the classes")


def _classes(known: Known, layout: _Layout) -> tuple[str, ...]:
    """The known names in their order, where they are those of the file."""
    same = sorted(map(plain, known.classes)) == sorted(map(plain, layout.classes))
    return known.classes if same else layout.classes


def _coded(labels: Sequence[Sequence[int]], of: _Layout, classes: Sequence[str]) -> np.ndarray:
    place = {plain(name): number for number, name in enumerate(classes)}
    moved = np.array([place[plain(name)] for name in of.classes], np.int32)
    if not of.several:
        return moved[[label[0] for label in labels]]
    found = np.zeros((len(labels), len(classes)), bool)
    for row, own in enumerate(labels):
        found[row, moved[list(own)]] = True
    return found


def _scan(
    shards: Mapping[str, Records], of: _Layout
) -> tuple[list[str], list[tuple[int, ...]], list[tuple[Records, int]]]:
    """Names, SPLIT/FILE or SPLIT/NUMBER, labels and places of all records."""
    names, labels, places = [], [], []
    for split, records in shards.items():
        for row in range(len(records)):
            feature = _features(records, row, split)
            file = feature[of.file].bytes_list.value[0].decode() if of.file else f"{row:07d}"
            own = tuple(feature[of.label].int64_list.value)
            if not all(0 <= label < len(of.classes) for label in own) or not (own or of.several):
                raise UserError(f"the {split} record {row} has the label {own}")
            names.append(f"{split}/{file}")
            labels.append(own)
            places.append((records, row))
    return names, labels, places


def _features(records: Records, row: int, split: str) -> Any:
    from tensorflow_datasets.proto import tf_example_pb2  # loads slowly

    try:
        return tf_example_pb2.Example.FromString(records[row]).features.feature
    except Exception as error:  # protobuf's DecodeError moves between its versions
        raise UserError(f"the {split} record {row} is damaged: prepare the data again") from error


@dataclass(frozen=True)
class _Images:
    """row -> uint8 [H,W,3]."""

    records: Sequence[tuple[Records, int]]
    rows: tuple[int, ...]
    layout: _Layout
    sensor: str
    added: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> np.ndarray:
        if self.layout.shape:
            return self._shown(self.values(row))
        data = self._feature(row).bytes_list.value[0]
        try:
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"the image of record {self.rows[row]} cannot be decoded") from error

    def values(self, row: int) -> np.ndarray:
        """float32 [H,W,C], as they are."""
        assert self.layout.shape is not None
        return np.array(self._feature(row).float_list.value, np.float32).reshape(self.layout.shape)

    def _shown(self, values: np.ndarray) -> np.ndarray:
        if not self.sensor:
            raise UserError(f"images of {values.shape[2]} bands: say which sensor they are of")
        rgb = [band - 1 for band in SENSORS[self.sensor].bands(values.shape[2])]
        return pictures.shown(values[..., rgb], self.sensor, self.added)

    def _feature(self, row: int) -> Any:
        records, place = self.records[self.rows[row]]
        return _features(records, place, "")[self.layout.image]


@dataclass(frozen=True)
class _Values:
    images: _Images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.images.values(row)
