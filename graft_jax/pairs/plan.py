"""The plan of a collection on disk: every tile with its rasters and photos, in Parquet.

It is all that a worker needs besides rasters and photos, so tiles can be cut anywhere.
"""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from graft_jax.pairs import columns
from graft_jax.pairs.cells import ranges
from graft_jax.pairs.cover import Assignment
from graft_jax.pairs.photos import Photos, TextReader
from graft_jax.pairs.settings import SPLITS, Settings

GROUP = 16  # tiles of a row group, which is one piece of work
_BATCH = 4096  # tiles put together at once


def write(
    directory: str,
    photos: Photos,
    assignment: Assignment,
    season: np.ndarray,
    split: np.ndarray,
    rasters: np.ndarray,
    texts: TextReader,
    settings: Settings,
) -> dict[str, str]:
    """Writes one file a split and returns them by split, empty splits left out.

    season, split, rasters: of each tile, int [T], int8 [T], int32 [T, K].
    """
    os.makedirs(directory, exist_ok=True)
    paths = {}
    for number, name in enumerate(SPLITS):
        tiles = np.flatnonzero(split == number)
        if not len(tiles):
            continue
        paths[name] = os.path.join(directory, f"{name}.parquet")
        writer = None
        for first in range(0, len(tiles), _BATCH):
            part = tiles[first : first + _BATCH]
            table = _table(part, photos, assignment, season, rasters, texts, settings)
            writer = writer or pyarrow.parquet.ParquetWriter(paths[name], table.schema)
            writer.write_table(table, row_group_size=GROUP)
        writer.close()  # type: ignore[union-attr]
    return paths


def groups(path: str) -> int:
    """How many pieces of work a plan file holds."""
    with pyarrow.parquet.ParquetFile(path) as file:
        return file.num_row_groups


def tiles(path: str) -> int:
    """How many tiles a plan file holds."""
    with pyarrow.parquet.ParquetFile(path) as file:
        return file.metadata.num_rows


def read(path: str, group: int) -> list[dict]:
    """The tiles of one row group, as dicts of Python values (see `_table`)."""
    with pyarrow.parquet.ParquetFile(path) as file:
        return file.read_row_group(group).to_pylist()


def _table(
    tiles: np.ndarray,
    photos: Photos,
    assignment: Assignment,
    season: np.ndarray,
    rasters: np.ndarray,
    texts: TextReader,
    settings: Settings,
) -> pa.Table:
    start, lengths = assignment.start[tiles], np.diff(assignment.start)[tiles]
    member = ranges(start, start + lengths)
    photo = assignment.photo[member]
    offsets = pa.array(np.append(0, np.cumsum(lengths)).astype(np.int32))

    def lists(values: pa.Array | np.ndarray) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, pa.array(values))

    centre = assignment.centre[tiles]
    lon, lat = photos.lon[centre], photos.lat[centre]
    read = texts.take(photos.row[photo])
    return pa.table(
        {
            "id": [_name(*row, settings) for row in zip(season[tiles], lon, lat, strict=True)],
            "lon": lon,
            "lat": lat,
            "rasters": pa.FixedSizeListArray.from_arrays(
                pa.array(rasters[tiles].ravel()), rasters.shape[1]
            ),
            "photo_id": lists(read["id"]),
            "photo_path": lists(read["path"]),
            "photo_lon": lists(photos.lon[photo]),
            "photo_lat": lists(photos.lat[photo]),
            "photo_day": lists(photos.day[photo]),
            "x": lists(assignment.x[member]),
            "y": lists(assignment.y[member]),
        }
    )


def _name(season: int, lon: float, lat: float, settings: Settings) -> str:
    """A tile's id: season, then the place of its centre to a decimetre."""
    if settings.season == "quarter":
        when = f"{1970 + season // 4}q{season % 4 + 1}_"
    elif settings.season == "year":
        when = f"{1970 + season}_"
    else:
        when = ""
    south, west = "s" if lat < 0 else "n", "w" if lon < 0 else "e"
    return f"{when}{south}{abs(lat):09.6f}_{west}{abs(lon):010.6f}"


def seasons(day: np.ndarray, settings: Settings) -> np.ndarray:
    """The season of each photo, int32 [n]: quarters or years since 1970, or all one."""
    if settings.season == "quarter":
        return columns.quarter(day)
    if settings.season == "year":
        return columns.year(day)
    return np.zeros(len(day), np.int32)
