"""The satellite rasters: which there are, where they lie, and what of them is usable."""

import contextlib
import datetime
import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import rasterio
from rasterio.enums import ColorInterp
from tqdm import tqdm

from graft_jax.pairs import columns, stac
from graft_jax.pairs.counts import Counts
from graft_jax.pairs.settings import Settings
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.ground import Unusable, pixel_metres

_SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2")
_COARSEST = 2.0  # pixels of a raster, in pixels of a tile: beyond that a tile is mostly invented
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_STAMP = re.compile(r"(?<!\d)((?:19[7-9]|20)\d{2})-?(\d{2})-?(\d{2})(?!\d{2,5}(?!\d))")


@dataclass(frozen=True)
class Raster:
    """One image of the ground: up to three files on one grid.

    Attributes:
      bands: (address, band number from 1) of red, green and blue; equal ones make a grey image.
      crs: its coordinate system as WKT · transform: pixel to coordinates, six numbers as `affine`
        orders them · width, height: pixels.
      day: when it was taken, days since 1970, or `columns.NO_DATE` · sensor: its name or "".
    """

    bands: tuple[tuple[str, int], ...]
    crs: str
    transform: tuple[float, ...]
    width: int
    height: int
    day: int
    sensor: str

    @property
    def grid(self) -> tuple:
        """What rasters of one place at several dates have in common."""
        return self.crs, self.transform, self.width, self.height


@dataclass(frozen=True)
class Source:
    """Where a raster is to be read from, before it is opened.

    Attributes:
      addresses: one file with all bands, or three with one each.
      date: ISO date or "" · sensor: name or "" · numbers: bands the source itself names, or ().
    """

    addresses: tuple[str, ...]
    date: str = ""
    sensor: str = ""
    numbers: tuple[int, ...] = ()


def catalogue(settings: Settings, counts: Counts) -> list[Raster]:
    """Opens every raster's header; those that cannot serve are counted, with a line each.

    Raises UserError for a path without rasters, or if none can serve.
    """
    sources = [s for path in settings.rasters for s in _sources(path, settings, counts)]
    found = []
    with gdal():
        for source in tqdm(sources, "opening rasters", unit="raster", leave=False):
            try:
                found.append(_open(source, settings))
            except (UserError, rasterio.errors.RasterioError) as error:
                line = f"{source.addresses[0]}: {' '.join(str(error).split())[:300]}"
                counts.skip("raster", _reason(error), 1, line)
    if not found:
        first = counts.problems[0] if counts.problems else "no raster was found"
        raise UserError(f"none of {len(sources)} rasters can be used; {first}")
    return found


@contextlib.contextmanager
def gdal() -> Iterator[None]:
    """Settings for reading: remote files by range, no listing of folders, an end to waiting."""
    with rasterio.Env(
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_CACHEMAX=128,
        GDAL_HTTP_MAX_RETRY=3,
        GDAL_HTTP_RETRY_DELAY=1,
        GDAL_HTTP_CONNECTTIMEOUT=20,
        GDAL_HTTP_TIMEOUT=120,
    ):
        yield


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, Unusable) else "cannot be opened"


def _sources(path: str, settings: Settings, counts: Counts) -> Sequence[Source]:
    if path.lower().endswith((".json", ".geojson")):
        return [Source(*item) for item in stac.read(path, settings, counts)]
    if "://" in path or path.startswith("/vsi"):
        return [Source((path,))]
    if os.path.isdir(path):
        inside = glob.glob(os.path.join(glob.escape(path), "**"), recursive=True)
        matches = sorted(file for file in inside if file.lower().endswith(_SUFFIXES))
    else:
        matches = sorted(glob.glob(path)) if glob.has_magic(path) else [path]
    if not matches or not all(os.path.exists(match) for match in matches):
        raise UserError(f"no rasters at --rasters={path!r}: GeoTIFF, VRT, STAC JSON or a folder")
    return [Source((match,)) for match in matches]


def _open(source: Source, settings: Settings) -> Raster:
    with rasterio.open(source.addresses[0]) as dataset:
        if dataset.crs is None:
            raise Unusable("no CRS", "it has no CRS: assign one, e.g. with gdal_edit -a_srs")
        if dataset.transform.is_identity:
            raise Unusable("not georeferenced", "it has no geotransform: georeference it first")
        numbers = source.numbers or _numbers(dataset, settings)
        bands = _bands(source.addresses, numbers, dataset.count)
        _check_values(dataset, settings)
        _check_resolution(dataset, settings)
        return Raster(
            bands,
            dataset.crs.to_wkt(),
            tuple(dataset.transform)[:6],
            dataset.width,
            dataset.height,
            _day(source, dataset),
            settings.sensor or source.sensor,
        )


def _numbers(dataset, settings: Settings) -> tuple[int, ...]:
    """Bands of red, green and blue: those asked for, those so marked, or the first three."""
    if settings.bands:
        return settings.bands
    marked = dataset.colorinterp
    if all(colour in marked for colour in _RGB):
        return tuple(marked.index(colour) + 1 for colour in _RGB)
    return (1, 2, 3) if dataset.count >= 3 else (1,)


def _bands(addresses: Sequence[str], numbers: Sequence[int], count: int):
    if max(numbers) > count:
        raise Unusable("bands missing", f"it has {count} bands, not {max(numbers)}: see --bands")
    three = tuple(numbers) * (3 // len(numbers))
    files = tuple(addresses) * (3 // len(addresses))
    return tuple(zip(files, three, strict=True))


def _check_values(dataset, settings: Settings) -> None:
    if ColorInterp.palette in dataset.colorinterp:
        raise Unusable("a colour table", "it has a colour table: expand it with gdal_translate")
    kind = dataset.dtypes[0]
    if kind != "uint8" and settings.stretch is None:
        raise Unusable(
            "not 8-bit and no --stretch",
            f"its values are {kind}: say which are black and white, e.g. --stretch=0,3000",
        )


def _check_resolution(dataset, settings: Settings) -> None:
    metres = pixel_metres(dataset.crs, dataset.transform, dataset.width, dataset.height).min()
    if metres > _COARSEST * settings.gsd:
        raise Unusable(
            "coarser than --gsd",
            f"its pixels are {metres:.4g} m, coarser than --gsd={settings.gsd:g}: ask for a "
            f"--gsd of {metres:.4g} or more",
        )


def _day(source: Source, dataset) -> int:
    """The date of the source, of the TIFF tag, or in the file's name; else unknown."""
    tag = dataset.tags().get("TIFFTAG_DATETIME", "")
    name = os.path.basename(source.addresses[0])
    for text in (source.date, tag.replace(":", "-", 2), name):
        if match := _STAMP.search(text):
            with contextlib.suppress(ValueError):
                day = datetime.date(*(int(part) for part in match.groups()))
                return (day - datetime.date(1970, 1, 1)).days
    return columns.NO_DATE
