"""Records of a tile data set as arrays."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np

from rsvl_jax.data import transforms
from rsvl_jax.data.pairs import Source
from rsvl_jax.errors import UserError


@dataclass(frozen=True)
class Tiles:
    """n tiles in memory.

    Attributes:
      ids: their names.
      images: uint8 [n,H,W,3], RGB.
      captions: the first caption of each tile.
      labels: int32 [n], index of the land-cover class, -1 where the tile is ambiguous.
      lon, lat: float64 [n], centre in degrees.
      masks: uint8 [n,H,W], land-cover class of each pixel, 255 unknown.
      purity: float32 [n], share of the tile that its dominant land cover takes, in [0, 1].
      blocks: int64 [n], geographic block.
    """

    ids: np.ndarray
    images: np.ndarray
    captions: np.ndarray
    labels: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    masks: np.ndarray
    purity: np.ndarray
    blocks: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> "Tiles":
        """The tiles at `rows` (indices or a boolean mask)."""
        return Tiles(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def fingerprint(self) -> str:
        """Hash of the ids in order, 12 hex digits: the same tiles, the same fingerprint."""
        return hashlib.sha256("\n".join(self.ids.tolist()).encode()).hexdigest()[:12]


def read(source: Source, rows: Iterable[int]) -> Tiles:
    """Reads and decodes records of a tile data set (see `rsvl_jax.datasets` for their schema).

    Raises UserError for no rows, and naming the record whose image or mask cannot be decoded.
    """
    columns: dict[str, list[Any]] = {field.name: [] for field in fields(Tiles)}
    for row in rows:
        for name, value in _columns(source[int(row)]).items():
            columns[name].append(value)
    if not columns["ids"]:
        raise UserError("no tiles to evaluate on: the split is empty")
    return Tiles(**{name: np.array(values) for name, values in columns.items()})


def _columns(record: Mapping[str, Any]) -> dict[str, Any]:
    landcover = np.asarray(record["landcover"], np.float32)
    return {
        "ids": str(record["id"]),
        "images": _decoded(record, "image", transforms.decode),
        "captions": record["captions"][0],
        "labels": np.int32(record["label"]),
        "lon": float(record["lon"]),
        "lat": float(record["lat"]),
        "masks": _decoded(record, "mask", _decode_mask),
        "purity": landcover[int(record["dominant"])],
        "blocks": int(record["block"]),
    }


def _decoded(record: Mapping[str, Any], name: str, decode: Callable[[bytes], Any]) -> np.ndarray:
    try:
        pixels = decode(record[name])
    except (UserError, cv2.error):
        pixels = None
    if pixels is None:
        raise UserError(
            f"record {record['id']!r}: its {name} cannot be decoded; build the data set again"
        )
    return pixels


def _decode_mask(data: bytes) -> np.ndarray | None:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
