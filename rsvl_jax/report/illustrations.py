"""What a method shows of itself: arrays and strings, kept in illustrations.npz beside the report.

Every part may be missing: a model without text retrieves no captions. Images are uint8 RGB.
Dimensions: M pictures, Q queries, K ranked answers, n tiles.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.storage import locate, replace_file

FILENAME = "illustrations.npz"


@dataclass(frozen=True)
class TileMap:
    """Where the tiles of the data set lie.

    Attributes:
      lon, lat: [n], centres in degrees.
      split: [n], name of each tile's split, such as "train".
      size_degrees: side of a tile; 0 draws points.
    """

    lon: np.ndarray
    lat: np.ndarray
    split: np.ndarray | Sequence[str]
    size_degrees: float = 0.0


@dataclass(frozen=True)
class Reconstructions:
    """Images, what was hidden of them, and what the model filled in.

    Attributes:
      original, masked, filled: uint8 [M,H,W,3].
      names: [M], what each shows; may be empty.
    """

    original: np.ndarray
    masked: np.ndarray
    filled: np.ndarray
    names: np.ndarray | Sequence[str] = ()


@dataclass(frozen=True)
class CaptionRetrievals:
    """Images as queries, and the captions ranked highest for each.

    Attributes:
      images: uint8 [Q,H,W,3].
      truth: [Q], the caption of each image.
      captions: [Q,K], best first.
      right: bool [Q,K], whether a caption counts as a right answer.
      ranks: int [Q], rank of the first right answer, 1 is best.
      gallery: number of captions that were ranked.
    """

    images: np.ndarray
    truth: np.ndarray | Sequence[str]
    captions: np.ndarray | Sequence[Sequence[str]]
    right: np.ndarray
    ranks: np.ndarray
    gallery: int


@dataclass(frozen=True)
class ImageRetrievals:
    """Captions as queries, and the images ranked highest for each.

    Attributes:
      queries: [Q], the captions.
      images: uint8 [Q,K,H,W,3], best first.
      right: bool [Q,K].
      ranks: int [Q], rank of the first right answer, 1 is best.
      gallery: number of images that were ranked.
    """

    queries: np.ndarray | Sequence[str]
    images: np.ndarray
    right: np.ndarray
    ranks: np.ndarray
    gallery: int


@dataclass(frozen=True)
class Similarity:
    """Cosine similarity of every place on Earth to one city, for the location encoder.

    Attributes:
      name: of the city.
      lon, lat: of the city, degrees.
      grid: float [h,w], cell centres; north row first, columns from 180° W to 180° E.
    """

    name: str
    lon: float
    lat: float
    grid: np.ndarray


@dataclass(frozen=True)
class Illustrations:
    """All that the report cannot read from config.json, metrics.jsonl and scores.json.

    Attributes:
      facts: "method", "hardware", "date" and whatever else belongs in the summary, see
        `gather.machine_facts`.
      glossary: loss term -> what it is, in a few words.
    """

    tiles: TileMap | None = None
    reconstructions: Reconstructions | None = None
    image_to_text: CaptionRetrievals | None = None
    text_to_image: ImageRetrievals | None = None
    similarities: Sequence[Similarity] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    glossary: Mapping[str, str] = field(default_factory=dict)


_PARTS: dict[str, Callable[..., Any]] = {
    "tiles": TileMap,
    "reconstructions": Reconstructions,
    "image_to_text": CaptionRetrievals,
    "text_to_image": ImageRetrievals,
}


def save(path: str, shown: Illustrations) -> None:
    """Writes an .npz without pickles; a reader sees the old file or the new one."""
    arrays: dict[str, np.ndarray] = {}
    for name in _PARTS:
        arrays.update(_flatten(name, getattr(shown, name)))
    for index, similarity in enumerate(shown.similarities):
        arrays.update(_flatten(f"similarities.{index}", similarity))
    for name in ("facts", "glossary"):
        pairs = list(getattr(shown, name).items())
        arrays[name] = np.array(pairs, np.str_).reshape(-1, 2)
    with replace_file(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _flatten(prefix: str, part: Any) -> dict[str, np.ndarray]:
    if part is None:
        return {}
    return {f"{prefix}.{f.name}": _array(getattr(part, f.name)) for f in fields(part)}


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    # An object array would need a pickle: its elements are strings.
    return array.astype(np.str_) if array.dtype == object else array


def load(path: str) -> Illustrations:
    """Reads what `save` wrote; nothing at all where there is no file.

    Raises UserError for a file that is not one.
    """
    found = locate(path)
    if not found.exists():
        return Illustrations()
    try:
        with np.load(io.BytesIO(found.read_bytes()), allow_pickle=False) as archive:
            return _assemble(dict(archive))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path!r} cannot be read ({error}): remove it, and the report does without"
        ) from error


_Part = TypeVar("_Part")


def _part(kind: Callable[..., _Part], prefix: str, arrays: Mapping[str, np.ndarray]) -> _Part:
    found = {
        key.removeprefix(prefix + "."): value.item() if value.ndim == 0 else value
        for key, value in arrays.items()
        if key.startswith(prefix + ".")
    }
    return kind(**found)


def _assemble(arrays: Mapping[str, np.ndarray]) -> Illustrations:
    prefixes = {key.rsplit(".", 1)[0] for key in arrays if "." in key}
    parts = {name: _part(kind, name, arrays) for name, kind in _PARTS.items() if name in prefixes}
    count = sum(prefix.startswith("similarities.") for prefix in prefixes)
    return Illustrations(
        **parts,
        similarities=tuple(_part(Similarity, f"similarities.{i}", arrays) for i in range(count)),
        facts=dict(arrays["facts"].tolist()),
        glossary=dict(arrays["glossary"].tolist()),
    )
