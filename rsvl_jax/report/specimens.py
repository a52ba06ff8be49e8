"""Single records on a page: image with boxes, mask, captions and what else it says."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps

from rsvl_jax.data.transforms import CorruptImage, decode
from rsvl_jax.datasets.survey import captions
from rsvl_jax.report.images import element
from rsvl_jax.report.markup import Safe, tag

_SIDE = 152  # pixels of a thumbnail
_SMALL = 78  # of one among many
_PHOTOS = 4  # ground photos that are shown beside a tile
_QUALITY = 75
_CAPTIONS, _LETTERS = 5, 300
_COLOURS = (
    *((230, 60, 60), (240, 190, 30), (70, 200, 80), (60, 160, 240), (220, 90, 220)),
    *((250, 140, 60), (120, 220, 210), (170, 140, 250)),
)

CSS = """
.specimens { display: grid; gap: 1.6rem 1.4rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.specimens figure { break-inside: avoid; min-width: 0; }
.specimens .views { display: flex; flex-wrap: wrap; gap: 3px; align-items: flex-start; }
.specimens img { image-rendering: auto; }
.specimens figcaption { font-size: .8rem; line-height: 1.35; overflow-wrap: anywhere; }
.specimens .who { color: var(--ink); font-family: var(--mono); font-size: .72rem; }
.specimens ul { margin: .2rem 0 0; padding-left: 1rem; }
.specimens .phrase { display: inline-block; padding: 0 .3rem; margin: .15rem .2rem 0 0;
  border-left: .35rem solid; background: var(--tint); color: var(--ink); }
.strip.alike { grid-template-columns: repeat(6, 1fr); }
"""


def figure(record: Mapping[str, Any], manifest: Mapping[str, Any], split: str) -> Safe:
    """A record with all that can be seen of it."""
    views = [view for view in (_image(record), _mask(record)) if view is not None]
    views += [_photo(data) for data in record.get("photos", ())[:_PHOTOS]]
    texts = [text[:_LETTERS] for text in list(captions(record))[:_CAPTIONS]]
    return tag(
        "figure",
        tag("div", views, class_="views"),
        tag(
            "figcaption",
            tag("div", f"{record['id']} · {split}", class_="who"),
            tag("div", _facts(record, manifest)),
            tag("ul", [tag("li", text) for text in texts]) if texts else None,
            _phrases(record.get("phrases", ())),
        ),
    )


def thumbnail(record: Mapping[str, Any]) -> Safe:
    """Its image alone, small."""
    try:
        return element(_shrunk(decode(record["image"]), _SMALL), str(record["id"]), _QUALITY)
    except CorruptImage:
        return tag("span", "unreadable", class_="note")


def _image(record: Mapping[str, Any]) -> Safe | None:
    if not record.get("image"):
        return None
    try:
        pixels = decode(record["image"])
    except CorruptImage:
        return tag("span", "image cannot be decoded", class_="missing")
    shown = _shrunk(pixels, _SIDE)
    scale = shown.shape[1] / pixels.shape[1]
    for number, box in enumerate(np.asarray(record.get("boxes", ())).reshape(-1, 4)):
        left, top, right, bottom = (int(round(float(edge) * scale)) for edge in box)
        cv2.rectangle(shown, (left, top), (right - 1, bottom - 1), _colour(number), 2)
    return element(shown, f"image of {record['id']}", _QUALITY)


def _mask(record: Mapping[str, Any]) -> Safe | None:
    """The classes of the pixels, each in a colour."""
    if not record.get("mask"):
        return None
    encoded = np.frombuffer(record["mask"], np.uint8)
    mask = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    if mask is None or mask.ndim != 2:
        return tag("span", "mask cannot be decoded", class_="missing")
    colours = (255 * colormaps["tab20"](np.arange(256) % 20)[:, :3]).astype(np.uint8)
    shown = cv2.resize(colours[mask], _size(mask.shape, _SIDE), interpolation=cv2.INTER_NEAREST)
    return element(shown, f"mask of {record['id']}", _QUALITY)


def _photo(data: bytes) -> Safe:
    try:
        return element(_shrunk(decode(data), _SMALL), "ground photo", _QUALITY)
    except CorruptImage:
        return tag("span", "photo cannot be decoded", class_="missing")


def _shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resized to `side` at its longer side; small pictures are enlarged without smoothing."""
    size = _size(pixels.shape[:2], side)
    smaller = size[0] < pixels.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_NEAREST
    return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=how))


def _size(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Width and height."""
    scale = side / max(shape[:2])
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _facts(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Place, size on the ground, time and class, in one line."""
    out = io.StringIO()
    if record.get("lon") is not None and not np.isnan(record["lon"]):
        lon, lat = record["lon"], record["lat"]
        out.write(f"{abs(lat):.3f}° {'N' if lat >= 0 else 'S'} ")
        out.write(f"{abs(lon):.3f}° {'E' if lon >= 0 else 'W'}  ")
    if record.get("gsd") and not np.isnan(record["gsd"]):
        metres = record["gsd"]
        out.write(f"{metres:.3g} m/px  " if metres < 1000 else f"{metres / 1000:.3g} km/px  ")
    out.write(f"{record.get('time') or record.get('date') or ''}  ")
    classes = manifest.get("classes", ())
    if 0 <= record.get("label", -1) < len(classes):
        out.write(f"[{classes[record['label']]}]")
    return " · ".join(part.strip() for part in out.getvalue().split("  ") if part.strip())


def _phrases(phrases: Sequence[str]) -> Safe | None:
    if not phrases:
        return None
    return tag(
        "div",
        [
            tag("span", phrase, class_="phrase", style=f"border-color:rgb{_colour(number)}")
            for number, phrase in enumerate(phrases)
        ],
    )


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[number % len(_COLOURS)]
