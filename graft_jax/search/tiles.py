"""Tiles for an index: cut from scenes by window, or read from a built data set."""

import datetime
import glob
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import rasterio

from graft_jax.map.windows import layout
from graft_jax.pairs.counts import Counts
from graft_jax.search.settings import Build
from rsvl_jax import datasets
from rsvl_jax.data.transforms import decode, resize
from rsvl_jax.errors import UserError
from rsvl_jax.rasters import footprints
from rsvl_jax.rasters.scene import Scene, gdal, open_scene

THUMBNAIL = 112  # pixels a side, at most
_QUALITY = 88
_METRES = 111_320  # of a degree of latitude
Hear = Callable[[int], object]


@dataclass(frozen=True)
class Tile:
    """Pixels uint8 [size, size, 3], and what the index says of them but for the embedding."""

    pixels: np.ndarray
    row: Mapping[str, Any]


def scene_paths(inputs: Sequence[str]) -> list[str]:
    """Scenes by path or pattern, in order, none twice.

    Raises UserError for a path that is not there, or a pattern that matches nothing.
    """
    found: dict[str, None] = {}
    for given in inputs:
        remote = "://" in given or given.startswith("/vsi")
        if os.path.isdir(given):
            raise UserError(f"--input={given!r} is a folder: give '{given.rstrip('/')}/*.tif'")
        if remote or all(map(os.path.exists, given.split(","))):
            found[given] = None
            continue
        matches = sorted(glob.glob(given, recursive=True))
        if not matches:
            raise UserError(f"no scene at --input={given!r}: give GeoTIFFs, or a pattern of them")
        found |= dict.fromkeys(matches)
    return list(found)


def of_scenes(settings: Build, size: int, counts: Counts, hear: Hear) -> Iterator[Tile]:
    """The tiles of all scenes, of `size` pixels; `hear` is told how many a scene may give.

    Scenes that cannot serve, and tiles without enough data, are counted.
    """
    with gdal():
        for path in scene_paths(settings.inputs):
            try:
                with open_scene(path, settings.view) as scene:
                    yield from _cut(scene, settings, size, counts, hear)
            except UserError as error:
                counts.skip("scene", "cannot be used", 1, str(error))


def _cut(scene: Scene, settings: Build, size: int, counts: Counts, hear: Hear) -> Iterator[Tile]:
    if min(scene.height, scene.width) < size:
        here = f"{scene.name!r} has {scene.width} x {scene.height} pixels, a tile {size} x {size}"
        counts.skip("scene", "smaller than a tile", 1, f"{here}: give a larger one, or --gsd")
        return
    places = layout(scene.height, scene.width, size=size, cells=1, overlap=settings.overlap)
    hear(len(places))
    ground = footprints.Ground(scene.crs, scene.transform)
    date = settings.date or _date(scene.name)
    for row, column in map(places.corner, range(len(places))):
        try:
            pixels, valid = scene.read(row, column, size)
        except UserError as error:
            counts.skip("tile", "cannot be read", 1, str(error) if not counts.problems else "")
            continue
        share = float(valid.mean())
        ring = ground.ring(row, column, size)
        if share < settings.min_valid:
            counts.skip("tile", "too few valid pixels", 1)
        elif not np.isfinite(ring).all():
            counts.skip("tile", "not on the Earth", 1)
        else:
            lon, lat = ground.point(row + size / 2, column + size / 2)
            place = {"lon": lon, "lat": lat, "row": row, "column": column, "date": date}
            name = os.path.basename(scene.name.split(",")[0])
            about = {
                "id": f"{name}/r{row}c{column}",
                "source": scene.name,
                "source_crs": scene.crs.to_string(),
                "gsd": scene.ground[0],
                "valid": share,
            }
            yield _tile(pixels, ring, {**place, **about})


def _date(source: str) -> datetime.date | None:
    """The day of TIFFTAG_DATETIME ("YYYY:MM:DD HH:MM:SS"), if the file has one that is a day."""
    with rasterio.open(source if os.path.exists(source) else source.split(",")[0]) as file:
        tag = file.tags().get("TIFFTAG_DATETIME", "")
    return _day(tag[:10].replace(":", "-"))


def _day(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text[:10])
    except ValueError:
        return None


def of_dataset(settings: Build, size: int, counts: Counts, hear: Hear) -> Iterator[Tile]:
    """The tiles of a built data set, shown in `size` pixels whatever they have.

    Raises UserError for a data set or split that is not there.
    """
    name, directory = settings.dataset, settings.data_dir
    manifest = datasets.manifest(name, directory)
    present = [split for split, count in manifest["splits"].items() if count]
    for split in (settings.split,) if settings.split else present:
        source = datasets.load(name, directory, split)
        hear(len(source))
        origin = {"source": f"{manifest['name']} {manifest['version']} {split}"}
        for number in range(len(source)):
            try:
                record = source[number]
                pixels = decode(record["image"])
            except UserError as error:
                counts.skip("tile", "cannot be read", 1, str(error) if not counts.problems else "")
                continue
            yield _from_record(record, pixels, size, origin, settings.date)


def _from_record(
    record: Mapping[str, Any],
    pixels: np.ndarray,
    size: int,
    origin: Mapping[str, Any],
    date: datetime.date | None,
) -> Tile:
    edges = record["footprint"] if "footprint" in record else record["bbox"]
    west, south, east, north = (float(edge) for edge in edges)
    gsd = record.get("gsd") or (north - south) * _METRES / len(pixels)
    place = {name: record[name] for name in ("lon", "lat")}
    about = {
        "id": record["id"],
        "source_crs": None,
        "row": record.get("row"),
        "column": record.get("col"),
        "gsd": gsd * len(pixels) / size,
        "date": date or _day(record.get("date", "")),
        "valid": 1.0,
    }
    shown = resize(pixels, (size, size), "area" if len(pixels) > size else "cubic")
    return _tile(
        shown, footprints.rectangle(west, south, east, north), {**place, **about, **origin}
    )


def _tile(pixels: np.ndarray, ring: np.ndarray, row: Mapping[str, Any]) -> Tile:
    ground = {"geometry": footprints.well_known_binary(ring), "bbox": footprints.box(ring)}
    return Tile(pixels, {**row, **ground, "thumbnail": _thumbnail(pixels)})


def _thumbnail(pixels: np.ndarray) -> bytes:
    side = min(len(pixels), THUMBNAIL)
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    settings = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    return cv2.imencode(".jpg", small[..., ::-1], settings)[1].tobytes()
