"""Verifies a built data set: every record, the counts, the fingerprint, splits without overlap."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from rsvl_jax.data.tokenizer import SentencePieceTokenizer
from rsvl_jax.data.transforms import decode
from rsvl_jax.datasets import check_records, registry, store
from rsvl_jax.datasets.earth_tiles import rasters, tiles
from rsvl_jax.datasets.fingerprint import Fingerprint, decode_mask
from rsvl_jax.errors import UserError

TOKENIZER = "tokenizer.model"
_MEND = "delete the data set's directory and build it again"


class Kind(Protocol):
    """What a record of one kind of data set must be, and what all of them come to."""

    def add(self, split: str, record: Mapping[str, Any]) -> None:
        """Takes in a record; UserError tells what is wrong with it."""

    def fingerprint(self) -> str:
        """Of what was taken in, as the manifest has it."""


def check(name: str, data_dir: str) -> dict[str, Any]:
    """Reads everything and returns the manifest; UserError tells the first thing that is wrong."""
    manifest = store.manifest(name, data_dir)
    _check_files(name, data_dir)
    kind = _kind(name, data_dir, manifest)
    for split, count in manifest["splits"].items():
        source = store.load(name, data_dir, split) if count else ()
        if len(source) != count:
            raise UserError(
                f"{split!r} of {name!r} has {len(source)} records, not {count}: {_MEND}"
            )
        for record in tqdm(source, f"checking {split}", unit="record", leave=False):
            kind.add(split, record)
    if kind.fingerprint() != manifest["fingerprint"]:
        raise UserError(f"the records of {name!r} are not those of its manifest: {_MEND}")
    if TOKENIZER in store.provenance(name, data_dir)["files"]:
        SentencePieceTokenizer(store.artifact(name, data_dir, TOKENIZER))
    return manifest


def _kind(name: str, data_dir: str, manifest: Mapping[str, Any]) -> Kind:
    entry = registry.find(name)
    if entry.builder == registry.IMAGE_TEXT:
        return check_records.ImageText(name, data_dir, manifest)
    if entry.builder == registry.PAIRS:
        return check_records.Pairs(entry.directory(data_dir))
    if entry.builder == registry.ZOOM_PAIRS:
        return check_records.Zoom(manifest)
    return EarthTiles(len(manifest["classes"]))


class EarthTiles:
    """Tiles that tell the truth about themselves, in splits that share no pixel."""

    def __init__(self, classes: int):
        """classes: how many there are."""
        self._classes, self._fingerprint, self._used = classes, Fingerprint(), Coverage()

    def add(self, split: str, record: Mapping[str, Any]) -> None:
        """See `check_record`."""
        check_record(record, self._classes)
        self._used.add(split, record)
        self._fingerprint.add(split, record)

    def fingerprint(self) -> str:
        """By pixels and values."""
        return self._fingerprint.hexdigest()


class Coverage:
    """Which pixels of the mosaic each split has used."""

    def __init__(self) -> None:
        self._owner = np.zeros((rasters.HEIGHT, rasters.WIDTH), np.uint8)
        self._splits: list[str] = []
        self._ids: set[str] = set()

    def add(self, split: str, record: Mapping[str, Any]) -> None:
        """Marks a tile as used; UserError if it was there before or shares a pixel with others."""
        if record["id"] in self._ids:
            raise UserError(f"record {record['id']!r} comes twice: {_MEND}")
        self._ids.add(record["id"])
        if split not in self._splits:
            self._splits.append(split)
        own = self._splits.index(split) + 1
        cols = (record["col"] + np.arange(tiles.SIZE)) % rasters.WIDTH
        rows = record["row"] + np.arange(tiles.SIZE)
        taken = self._owner[np.ix_(rows, cols)]
        if np.any((taken != 0) & (taken != own)):
            other = self._splits[int(taken[(taken != 0) & (taken != own)][0]) - 1]
            raise UserError(
                f"record {record['id']!r} of {split!r} shares pixels with {other!r}: {_MEND}"
            )
        self._owner[np.ix_(rows, cols)] = own


def check_record(record: Mapping[str, Any], classes: int) -> None:
    """Raises UserError where a record is not what `datasets.load` promises.

    classes: how many there are; labels run from -1 to classes - 1.
    """
    try:
        _check_place(record)
        _check_pixels(record)
        _check_words(record)
        if not -1 <= record["label"] < classes:
            raise UserError(f"label {record['label']} is not between -1 and {classes - 1}")
    except UserError as error:
        raise UserError(f"record {record['id']!r}: {error}; {_MEND}") from error


def check_position(*, lon: float, lat: float) -> None:
    """Raises UserError for coordinates that are out of range, swapped or not finite. Degrees."""
    if -90 <= lat <= 90 and -180 <= lon <= 180:
        return
    swapped = abs(lon) <= 90 and 90 < abs(lat) <= 180
    hint = "they look swapped" if swapped else "lon is in [-180, 180] and lat in [-90, 90] degrees"
    raise UserError(f"position lon={lon}, lat={lat} is not on the Earth: {hint}")


def _check_place(record: Mapping[str, Any]) -> None:
    check_position(lon=record["lon"], lat=record["lat"])
    centre = tiles.centre(record["row"], record["col"])
    if not np.allclose(centre, (record["lon"], record["lat"]), atol=1e-3):
        raise UserError(
            f"its centre lon={record['lon']:.3f}, lat={record['lat']:.3f} is not that of row "
            f"{record['row']}, col {record['col']}"
        )
    if not np.allclose(tiles.bounds(record["row"], record["col"]), record["bbox"], atol=1e-3):
        raise UserError(f"bbox {np.asarray(record['bbox']).tolist()} is not around its centre")


def _check_pixels(record: Mapping[str, Any]) -> None:
    image, mask = decode(record["image"]), decode_mask(record["mask"])
    square = (tiles.SIZE, tiles.SIZE)
    if image.shape != (*square, 3) or mask.shape != square:
        raise UserError(f"image {image.shape} and mask {mask.shape} are not {square}")
    if mask.max() > 16:
        raise UserError(f"the mask holds class {mask.max()}; IGBP has 0 to 16")
    shares = np.bincount(mask.ravel(), minlength=17) / mask.size
    if not np.allclose(shares, record["landcover"], atol=1e-4):
        raise UserError("its land-cover shares are not those of its mask")
    if record["dominant"] != int(np.argmax(record["landcover"])):
        raise UserError(f"dominant class {record['dominant']} is not the most frequent one")


def _check_words(record: Mapping[str, Any]) -> None:
    for name in ("captions", "phrases"):
        texts = record[name]
        if any(not text.strip() for text in texts) or len(set(texts)) != len(texts):
            raise UserError(f"{name} {texts} are empty or repeat")
    if len(record["captions"]) < 4:
        raise UserError(f"only {len(record['captions'])} captions")
    boxes = np.asarray(record["boxes"])
    if boxes.shape != (len(record["phrases"]), 4):
        raise UserError(f"{len(record['phrases'])} phrases but boxes {boxes.shape}")
    if np.any(boxes < 0) or np.any(boxes > tiles.SIZE) or np.any(boxes[:, 2:] <= boxes[:, :2]):
        raise UserError(f"boxes {boxes.tolist()} are not inside the tile")


def _check_files(name: str, data_dir: str) -> None:
    for filename, expected in store.provenance(name, data_dir)["files"].items():
        path = store.artifact(name, data_dir, filename)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != expected["sha256"]:
            size = os.path.getsize(path)
            raise UserError(f"file {path!r} ({size} bytes) is corrupt, its hash is wrong: {_MEND}")
