"""A folder of geotagged JPEGs as a metadata table, from their EXIF headers alone."""

import os
from collections.abc import Iterator

import pyarrow as pa
from PIL import ExifTags, Image

from graft_jax.pairs.counts import Counts

SUFFIXES = (".jpg", ".jpeg")
_ROWS = 4096  # a chunk
_SCHEMA = pa.schema(
    [("id", pa.string()), ("date", pa.string()), ("path", pa.string())]
    + [(name, pa.float64()) for name in ("lon", "lat", "error_m", "width", "height")]
)


def jpegs(folder: str) -> list[str]:
    """The JPEGs below a folder, paths relative to it, sorted."""
    found = []
    for base, _, files in os.walk(folder):
        found += [os.path.join(base, f) for f in files if f.lower().endswith(SUFFIXES)]
    return sorted(os.path.relpath(path, folder) for path in found)


def read(folder: str, counts: Counts) -> Iterator[pa.Table]:
    """Tables with the columns id, lon, lat, date, error_m, width, height, path, chunk by chunk.

    The id is the path below the folder. Files that are no images are counted and left out; a
    photo without GPS stays, without coordinates, to be counted where all such photos are.
    """
    rows: list[dict] = []
    for name in jpegs(folder):
        path = os.path.join(folder, name)
        try:
            rows.append({"id": name.replace(os.sep, "/"), "path": path} | _header(path))
        except (OSError, SyntaxError, ValueError):
            counts.read(1)
            counts.skip("photo", "not a readable image", 1)
        if len(rows) == _ROWS:
            yield pa.Table.from_pylist(rows, schema=_SCHEMA)
            rows = []
    if rows:
        yield pa.Table.from_pylist(rows, schema=_SCHEMA)


def _header(path: str) -> dict:
    with Image.open(path) as image:
        width, height = image.size
        exif = image.getexif()
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    tags = exif.get_ifd(ExifTags.IFD.Exif)
    date = tags.get(ExifTags.Base.DateTimeOriginal) or exif.get(ExifTags.Base.DateTime) or ""
    return {
        "lon": _degrees(gps, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W"),
        "lat": _degrees(gps, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S"),
        "error_m": _number(gps.get(ExifTags.GPS.GPSHPositioningError)),
        "date": str(date).strip("\0 "),
        "width": float(width),
        "height": float(height),
    }


def _degrees(gps: dict, value: int, reference: int, negative: str) -> float | None:
    parts = gps.get(value)
    try:
        degrees, minutes, seconds = (float(part) for part in parts)  # type: ignore[union-attr]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    sign = -1 if str(gps.get(reference, "")).strip("\0 ").upper() == negative else 1
    return sign * (degrees + minutes / 60 + seconds / 3600)


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
