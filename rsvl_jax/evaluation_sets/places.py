"""Where images were taken, and places to choose from: tables with a longitude and a latitude."""

import csv
import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from rsvl_jax.data.transforms import check_location
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets.collection import Collection

TABLE = "places.csv"
_NAMES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "filename", "filepath", "id", "img_id"),
    "lon": ("lon", "longitude", "lng"),
    "lat": ("lat", "latitude"),
}


def read(path: str, named: bool = False) -> tuple[list[str], np.ndarray, np.ndarray]:
    """(names, lon, lat), degrees float64 [n], of a CSV with a header; names are empty unless asked.

    Columns are called image (filename, id, ...), lon (longitude) and lat (latitude), in any case.
    Raises UserError, one line, for a table without these columns and for what is no place on Earth.
    """
    wanted = ("image", "lon", "lat") if named else ("lon", "lat")
    if not os.path.isfile(path):
        raise UserError(f"no {path!r}: a CSV with the columns {', '.join(wanted)}")
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = [name.strip().lower() for name in next(rows, [])]
        places = {what: _column(header, what, path) for what in wanted}
        found = [_place(row, places, f"{path}:{rows.line_num}") for row in rows if row]
    if not found:
        raise UserError(f"{path!r} has no rows")
    names, lon, lat = zip(*found, strict=True)
    return list(names), np.array(lon, np.float64), np.array(lat, np.float64)


def _column(header: list[str], what: str, path: str) -> int:
    for name in _NAMES[what]:
        if name in header:
            return header.index(name)
    raise UserError(f"{path!r} has the columns {', '.join(header)}: none is {what!r}")


def _place(row: list[str], places: Mapping[str, int], where: str) -> tuple[str, float, float]:
    try:
        lon, lat = float(row[places["lon"]]), float(row[places["lat"]])
    except (ValueError, IndexError) as error:
        raise UserError(f"{where}: no longitude and latitude in {','.join(row)[:80]!r}") from error
    try:
        check_location(lon=lon, lat=lat)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return row[places["image"]] if "image" in places else "", lon, lat


def beside(of: Collection, root: str) -> Collection:
    """The collection with the places of its images, where ROOT/places.csv has them; NaN else.

    Images are named as the collection does: by their path below the root, or its last part.
    """
    path = os.path.join(root, TABLE) if os.path.isdir(root) else ""
    if of.lon is not None or not os.path.isfile(path):
        return of
    names, lon, lat = read(path, named=True)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path!r} has {twice!r} twice: leave one out")
    rows = {name: row for row, name in enumerate(names)}
    own = [rows.get(name, rows.get(os.path.basename(name), -1)) for name in of.ids]
    at = np.array(own)
    return replace(of, lon=np.where(at < 0, np.nan, lon[at]), lat=np.where(at < 0, np.nan, lat[at]))
