"""S2-100K, the data of SatCLIP: index.csv (fn, lon, lat) and images/patch_N.tif, Sentinel-2 L2A."""

import argparse
import os
from typing import Any

import numpy as np

from rsvl_jax.datasets.image_text.reader import Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import fields
from rsvl_jax.datasets.image_text.readers.geotiff import png
from rsvl_jax.datasets.image_text.readers.lines import Lines
from rsvl_jax.errors import UserError

_INDEX, _IMAGES = "index.csv", "images"
_SMALLEST = 10_000  # bytes; smaller files are broken, SatCLIP leaves them out, too
_GSD = 10.0


class S2100K(Reader):
    """Patches of 256 x 256 pixels and 12 bands as true-colour tiles with their coordinates."""

    layout = "s2_100k"
    help = "S2-100K as SatCLIP is trained on: index.csv and images/patch_N.tif"
    parts = frozenset({"image"})

    def __init__(self, root: str, offset: int):
        """offset: what is taken off the values before they are shown."""
        self.root, self.offset = root, offset
        self.lines = Lines(os.path.join(root, _INDEX))
        self.columns = [self.lines.column(names, "source") for names in _COLUMNS]

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """What was added to the values."""
        what = "taken off the values, 1000 from processing baseline 04.00 on [0]"
        parser.add_argument("--s2_offset", type=int, default=0, help=what)

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "S2100K":
        """--source is the folder with index.csv; its shards must be unpacked."""
        root = os.path.abspath(arguments.source)
        if not os.path.isfile(os.path.join(root, _INDEX)):
            raise UserError(f"--source={arguments.source!r} has no {_INDEX}")
        if not os.path.isdir(os.path.join(root, _IMAGES)):
            raise UserError(
                f"--source={arguments.source!r} has no folder {_IMAGES!r}: unpack its shards, "
                'with: for f in *.tar; do tar xf "$f"; done'
            )
        return cls(root, arguments.s2_offset)

    def describe(self) -> dict[str, Any]:
        """The folder, and what is taken off."""
        return {"folder": self.root, "s2_offset": self.offset}

    def files(self) -> list[str]:
        """The index and the folder of images."""
        return [self.lines.path, os.path.join(self.root, _IMAGES)]

    def prepare(self, folder: str) -> None:
        """Where the rows of index.csv begin."""
        self.lines.prepare(os.path.join(folder, "lines.npy"))

    def open(self, folder: str) -> None:
        """Opens the index."""
        self.lines.open(os.path.join(folder, "lines.npy"))

    def __len__(self) -> int:
        return len(self.lines)

    def read(self, index: int) -> Row:
        """A patch as PNG."""
        given = self.lines.read(index)
        name, lon, lat = (given[column] for column in self.columns)
        path = os.path.join(self.root, _IMAGES, name)
        try:
            size = os.path.getsize(path)
        except OSError as error:
            raise Drop("image is missing", name) from error
        if size < _SMALLEST:
            raise Drop("file is smaller than 10 kB", name)
        return Row(
            key=name,
            image=png(self._pixels(path, name)),
            lon=fields.number(lon, "lon"),
            lat=fields.number(lat, "lat"),
            gsd=_GSD,
        )

    def _pixels(self, path: str, name: str) -> np.ndarray:
        """RGB uint8 [h, w, 3]."""
        import rasterio

        from rsvl_jax.rasters.sensors import SENSORS

        sensor = SENSORS["sentinel2"]
        low, high = sensor.scale(self.offset) or (0.0, 1.0)
        try:
            with rasterio.open(path) as file:
                values = file.read(sensor.bands(file.count, file.descriptions))
        except (rasterio.errors.RasterioError, UserError) as error:
            raise Drop("image cannot be read", f"{name}: {error}") from error
        share = (values.astype(np.float32) - low) / (high - low)
        return np.round(255 * np.clip(share, 0, 1)).astype(np.uint8).transpose(1, 2, 0)


_COLUMNS = (("fn", "filename", "file"), ("lon", "longitude"), ("lat", "latitude"))
