"""GeoTIFFs that stand whole or not at all: tiled, compressed, with overviews (COG layout)."""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rasterio
import rasterio.shutil

from rsvl_jax.errors import UserError

NO_CLASS = 255
_TILE = 512
_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Raster:
    """What a GeoTIFF is.

    Attributes:
      crs, transform, width, height: its grid.
      names: descriptions of its bands.
      tags: strings by name, of the whole file.
      colours: class -> RGBA of a class map, uint8 with nodata 255; None for float32, nodata NaN.
    """

    crs: Any
    transform: Any
    width: int
    height: int
    names: Sequence[str]
    tags: Mapping[str, str]
    colours: Mapping[int, tuple[int, int, int, int]] | None = None


def check_path(path: str) -> None:
    """Raises UserError for a path that is no GeoTIFF's, or lies in no folder."""
    if not path.lower().endswith(_SUFFIXES):
        raise UserError(f"output {path!r} must end in .tif")
    check_folder(path)


def check_folder(path: str) -> None:
    """Raises UserError where the folder of a file to write is not there."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UserError(f"no folder {folder!r} for {os.path.basename(path)!r}: make it first")


@contextlib.contextmanager
def create(path: str, raster: Raster) -> Iterator[Any]:
    """A dataset to write blocks of 512 pixels into; it replaces `path` when all went well.

    The COG driver wants a whole file, so a plain one is written beside the output first.
    """
    check_path(path)
    folder = os.path.dirname(os.path.abspath(path))
    classes = raster.colours is not None
    kind = "uint8" if classes else "float32"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".map-") as scratch:
        plain, whole = os.path.join(scratch, "plain.tif"), os.path.join(scratch, "whole.tif")
        with rasterio.open(
            plain,
            "w",
            driver="GTiff",
            crs=raster.crs,
            transform=raster.transform,
            width=raster.width,
            height=raster.height,
            count=len(raster.names),
            dtype=kind,
            nodata=NO_CLASS if classes else float("nan"),
            tiled=True,
            blockxsize=_TILE,
            blockysize=_TILE,
            compress="deflate",
            zlevel=1,
            bigtiff="if_safer",
        ) as dataset:
            dataset.update_tags(**raster.tags)
            for number, name in enumerate(raster.names, 1):
                dataset.set_band_description(number, name)
            if raster.colours is not None:
                dataset.write_colormap(1, dict(raster.colours))
            yield dataset
        rasterio.shutil.copy(
            plain,
            whole,
            driver="COG",
            blocksize=_TILE,
            compress="deflate",
            predictor="standard" if classes else "yes",
            overview_resampling="mode" if classes else "average",
            bigtiff="if_safer",
        )
        os.replace(whole, path)
