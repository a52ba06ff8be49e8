"""What records of downloads and of pairs must be; `check` goes through them."""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rsvl_jax.data.transforms import check_location, decode
from rsvl_jax.datasets import registry, store
from rsvl_jax.datasets.fingerprint import Fingerprint, decode_mask
from rsvl_jax.datasets.ground_satellite_pairs.shards import read_back
from rsvl_jax.datasets.zoom_pairs.record import content
from rsvl_jax.errors import UserError

_MEND = "build the data set again"
Record = Mapping[str, Any]


class ImageText:
    """Records built from a download."""

    def __init__(self, name: str, data_dir: str, manifest: Mapping[str, Any]):
        """manifest: of the data set."""
        self._name, self._data_dir = name, data_dir
        self._parts, self._classes = manifest["parts"], len(manifest["classes"])
        self._ids = _Ids()
        counts = {split: sum(lengths) for split, lengths in self._lengths().items()}
        if counts != manifest["splits"]:
            raise UserError(
                f"{name!r} has {counts} records, not {manifest['splits']} as its manifest: {_MEND}"
            )

    def add(self, split: str, record: Record) -> None:
        """Image, captions, coordinates, boxes and label of a record."""
        with _named(record):
            self._ids.add(record["id"])
            if "image" in self._parts:
                height, width = decode(record["image"]).shape[:2]
                if (width, height) != (record["width"], record["height"]):
                    raise UserError(
                        f"its image is {width} x {height}, not {record['width']} x "
                        f"{record['height']} pixels"
                    )
            if "captions" in self._parts and not record["captions"]:
                raise UserError("it has no caption")
            if any(not text.strip() for text in record["captions"]):
                raise UserError(f"captions {record['captions']} are empty")
            _check_place(record)
            _check_boxes(record)
            if not -1 <= record["label"] < self._classes:
                raise UserError(
                    f"label {record['label']} is not between -1 and {self._classes - 1}"
                )

    def fingerprint(self) -> str:
        """Of the shards in order; that each is what it was when it was written is known by now."""
        files = store.provenance(self._name, self._data_dir)["files"]
        digest = hashlib.sha256()
        for split, lengths in self._lengths().items():
            shards = sorted(name for name in files if f"-{split}.array_record" in name)
            for length, shard in zip(lengths, shards, strict=True):
                digest.update(f"{split} {length} {files[shard]['sha256']}\n".encode())
        return digest.hexdigest()

    def _lengths(self) -> dict[str, list[int]]:
        """Records of each shard by split, in the order of the splits."""
        directory = registry.find(self._name).directory(self._data_dir)
        with open(os.path.join(directory, "dataset_info.json"), encoding="utf-8") as file:
            told = {info["name"]: info["shardLengths"] for info in json.load(file)["splits"]}
        splits = store.manifest(self._name, self._data_dir)["splits"]
        return {split: [int(n) for n in told.get(split, ())] for split in splits}


class Pairs:
    """Satellite tiles with ground photos."""

    def __init__(self, directory: str):
        """directory: of the collection."""
        self._directory = directory

    def add(self, split: str, record: Record) -> None:
        """Tile and photos of a record, and that the photos lie on the tile."""
        with _named(record):
            _check_pair(record)

    def fingerprint(self) -> str:
        """By the bytes of the records."""
        return read_back(self._directory)[1]


class Zoom:
    """Coarse tiles with fine views."""

    def __init__(self, manifest: Mapping[str, Any]):
        """manifest: of the data set."""
        self._fingerprint = Fingerprint()
        self._classes, self._kinds = len(manifest["classes"]), len(manifest["pixel_classes"])

    def add(self, split: str, record: Record) -> None:
        """As of pairs, and the truth about the pixels."""
        with _named(record):
            _check_pair(record)
            if decode_mask(record["mask"]).max() >= self._kinds:
                raise UserError(f"its mask has classes beyond {self._kinds - 1}")
            labels = [record["label"], *record["photo_labels"].tolist()]
            if not all(-1 <= label < self._classes for label in labels):
                raise UserError(f"labels {labels} are not all between -1 and {self._classes - 1}")
        self._fingerprint.add(split, content(record))

    def fingerprint(self) -> str:
        """By pixels and values."""
        return self._fingerprint.hexdigest()


class _Ids:
    """Which ids there were, by 64 bits of each."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def add(self, name: str) -> None:
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        if number in self._seen:
            raise UserError("its id comes twice")
        self._seen.add(number)


@contextlib.contextmanager
def _named(record: Record) -> Iterator[None]:
    """Errors inside of it name the record."""
    try:
        yield
    except UserError as error:
        raise UserError(f"record {record['id']!r}: {error}; {_MEND}") from error


def _check_place(record: Record) -> None:
    if math.isnan(record["lon"]) and math.isnan(record["lat"]):
        return
    check_location(lon=record["lon"], lat=record["lat"])
    west, south, east, north = (float(side) for side in record.get("box", (math.nan,) * 4))
    if not math.isnan(west) and not (west <= east <= west + 360 and -90 <= south <= north <= 90):
        raise UserError(f"its box {[west, south, east, north]} is not W, S, E, N")


def _check_boxes(record: Record) -> None:
    boxes: np.ndarray = record["boxes"]
    limit = [record["width"], record["height"]] * 2
    if len(boxes) != len(record["phrases"]):
        raise UserError(f"{len(record['phrases'])} phrases have {len(boxes)} boxes")
    if np.any(boxes < 0) or np.any(boxes > limit) or np.any(boxes[:, 2:] <= boxes[:, :2]):
        raise UserError(f"boxes {boxes.tolist()} are not inside the image")


def _check_pair(record: Record) -> None:
    check_location(lon=record["lon"], lat=record["lat"])
    height, width = decode(record["image"]).shape[:2]
    photos: Sequence[bytes] = record["photos"]
    names, places = record["photo_ids"], record["photo_xy"]
    if len(places) != len(names) or len(photos) not in (0, len(names)):
        raise UserError(f"{len(names)} photos have {len(places)} places and {len(photos)} images")
    if np.any(places < 0) or np.any(places > (width, height)):
        raise UserError("a photo does not lie on the tile")
    for name, photo in zip(names, photos, strict=False):
        try:
            decode(photo)
        except UserError as error:
            raise UserError(f"photo {name!r}: {error}") from error
