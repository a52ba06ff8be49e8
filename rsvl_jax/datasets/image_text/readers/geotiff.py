"""Tiles cut from georeferenced scenes by window, with their places; they have no captions."""

import argparse
import contextlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np

from rsvl_jax.datasets.image_text.reader import Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import patterns
from rsvl_jax.errors import UserError

SUFFIXES = (".tif", ".tiff", ".vrt", ".jp2")
OFFSETS = ("auto", "0", "1000")
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)(0[1-9]|1[0-2])([0-2]\d|3[01])(?!\d)")
_TIFF_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d)")


@dataclass(frozen=True)
class Cut:
    """How scenes are seen and cut.

    Attributes:
      size, stride: of the windows, in pixels. min_valid: share of a tile that must not be nodata.
      sensor: one of `sensors.SENSORS`, or "". s2_offset: one of OFFSETS.
      bands, scale, gsd: as of `scene.View`; they come before what the sensor says.
    """

    size: int = 224
    stride: int = 224
    min_valid: float = 0.9
    sensor: str = ""
    s2_offset: str = "auto"
    bands: tuple[int, ...] = ()
    scale: tuple[float, ...] | None = None
    gsd: float | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or self.stride < 1:
            raise UserError(f"--size={self.size} --stride={self.stride}: give 1 pixel or more")
        if not 0 <= self.min_valid <= 1:
            raise UserError(f"--min_valid={self.min_valid} is no share between 0 and 1")


class GeoTiff(Reader):
    """Square windows of scenes, row by row; the last of each ends where the scene does."""

    layout = "geotiff"
    help = "tiles cut from GeoTIFF scenes, with lon and lat, for streams that need no captions"
    parts = frozenset({"image"})
    random_access = False  # a scene's blocks are decoded once
    chunk = 256

    def __init__(self, source: str, paths: Sequence[str], cut: Cut):
        """paths: the scenes in order."""
        self.source, self.paths, self.cut = source, list(paths), cut
        self._windows = np.zeros((0, 3), np.int32)
        self._dropped: dict[str, int] = {}
        self._current, self._time = -1, ""
        self._scene: Any = None
        self._ground: Any = None
        self._open = contextlib.ExitStack()

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """How scenes are seen and cut."""
        from rsvl_jax.rasters.sensors import SENSORS

        add = parser.add_argument
        add("--size", type=int, default=224, help="of a tile, pixels [224]")
        add("--stride", type=int, default=0, help="from tile to tile, pixels [--size]")
        add("--gsd", type=float, default=None, help="metres a pixel to read at [the scene's own]")
        add("--sensor", choices=["", *SENSORS], default="", help="whose bands and values it has")
        add("--s2_offset", choices=OFFSETS, default="auto", help="added to Sentinel-2's values")
        add("--bands", default="", help="red,green,blue, from 1 [the sensor's, or as marked]")
        add("--scale", default="", help="BLACK,WHITE values [the sensor's, or 2nd-98th percentile]")
        add(
            "--min_valid",
            type=float,
            default=0.9,
            help="share of valid pixels to keep a tile [0.9]",
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "GeoTiff":
        """--source is a scene, a folder of them, or a pattern."""
        given = arguments
        cut = Cut(
            size=given.size,
            stride=given.stride or given.size,
            min_valid=given.min_valid,
            sensor=given.sensor,
            s2_offset=given.s2_offset,
            bands=tuple(int(n) for n in _numbers("bands", given.bands)),
            scale=tuple(_numbers("scale", given.scale)) or None,
            gsd=given.gsd,
        )
        return cls(os.path.abspath(given.source), patterns.find(given.source, SUFFIXES), cut)

    def describe(self) -> dict[str, Any]:
        """The scenes and how they are cut."""
        return {"source": self.source, "scenes": len(self.paths), **asdict(self.cut)}

    def files(self) -> list[str]:
        """The scenes."""
        return self.paths

    def prepare(self, folder: str) -> None:
        """Scene, row and column of every window: twelve bytes each."""
        dropped: Counter[str] = Counter()
        if self.cut.sensor == "sentinel2" and self.cut.s2_offset == "auto":
            _warn(self.paths)
        with open(os.path.join(folder, "windows"), "wb") as out:
            for number, path in enumerate(self.paths):
                try:
                    windows = self._cut(number, path)
                except UserError as error:
                    print(f"left out: {error}", file=sys.stderr)
                    dropped["scene cannot be used"] += 1
                    continue
                if not len(windows):
                    dropped["scene is smaller than a tile"] += 1
                out.write(windows.tobytes())
        with open(os.path.join(folder, "dropped.json"), "w", encoding="utf-8") as file:
            json.dump(dropped, file)

    def _cut(self, number: int, path: str) -> np.ndarray:
        """int32 [n, 3]: scene, row, column."""
        from rsvl_jax.rasters import windows

        with self._opened(path) as scene:
            if min(scene.height, scene.width) < self.cut.size:
                return np.zeros((0, 3), np.int32)
            rows, columns = (
                windows.starts(side, self.cut.size, self.cut.stride)
                for side in (scene.height, scene.width)
            )
        grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
        return np.insert(grid, 0, number, axis=1).astype(np.int32)

    def open(self, folder: str) -> None:
        """Opens the list of windows."""
        path = os.path.join(folder, "windows")
        if os.path.getsize(path):
            self._windows = np.memmap(path, np.int32, "r").reshape(-1, 3)
        with open(os.path.join(folder, "dropped.json"), encoding="utf-8") as file:
            self._dropped = json.load(file)

    def __len__(self) -> int:
        return len(self._windows)

    def dropped(self) -> Mapping[str, int]:
        """Scenes of which there is no window."""
        return self._dropped

    def read(self, index: int) -> Row:
        """A window as PNG. Raises Drop for one with too many pixels of no data."""
        from rsvl_jax.rasters import footprints

        number, row, column = self._windows[index].tolist()
        scene, ground = self._enter(number)
        key = f"{os.path.relpath(self.paths[number], self._root())}/{row}_{column}"
        try:
            pixels, valid = scene.read(row, column, self.cut.size)
        except UserError as error:
            raise Drop("scene cannot be read", str(error)) from error
        if self.cut.sensor:
            valid &= pixels.any(axis=2)  # 0 is no data with all of them, also where no tag says so
        if valid.mean() < self.cut.min_valid:
            raise Drop("too few valid pixels", f"{key}: {valid.mean():.2f}")
        half = self.cut.size / 2
        lon, lat = ground.point(row + half, column + half)
        if not np.isfinite([lon, lat]).all():
            raise Drop("coordinates are out of range", key)
        return Row(
            key=key,
            image=png(pixels),
            lon=float(lon),
            lat=float(lat),
            box=footprints.box(ground.ring(row, column, self.cut.size)),
            gsd=float(np.mean(scene.ground)),
            time=self._time,
        )

    def _root(self) -> str:
        return self.source if os.path.isdir(self.source) else os.path.dirname(self.paths[0])

    def _enter(self, number: int) -> tuple[Any, Any]:
        """The open scene and its ground; one is open at a time."""
        from rsvl_jax.rasters.footprints import Ground

        if self._current != number:
            self._open.close()
            self._current = -1
            path = self.paths[number]
            try:
                self._scene = self._open.enter_context(self._opened(path))
            except UserError as error:
                raise Drop("scene cannot be read", str(error)) from error
            self._ground = Ground(self._scene.crs, self._scene.transform)
            self._time = _time(path)
            self._current = number
        return self._scene, self._ground

    def _opened(self, path: str) -> Any:
        """A context manager with the `scene.Scene`."""
        from rsvl_jax.rasters.scene import View, open_scene

        cut = self.cut
        bands, scale = cut.bands, cut.scale
        if cut.sensor:
            known = seen_by(path, cut.sensor, cut.s2_offset, bands)
            bands, scale = known[0], scale or known[1]
        return open_scene(path, View(bands=bands, scale=scale, gsd=cut.gsd))

    def __getstate__(self) -> dict[str, Any]:
        closed = {"_current": -1, "_scene": None, "_ground": None, "_open": None}
        return self.__dict__ | closed

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open = contextlib.ExitStack()


def seen_by(
    path: str, sensor: str, s2_offset: str = "auto", bands: tuple[int, ...] = ()
) -> tuple[tuple[int, ...], tuple[float, float] | None]:
    """Bands and scale of a file of a known sensor, see `sensors`.

    bands: those that are asked for, instead of the sensor's. Where "auto" does not find
    Sentinel-2's processing baseline, nothing is taken off. Raises UserError.
    """
    import rasterio

    from rsvl_jax.rasters import sensors

    known, added = sensors.SENSORS[sensor], 0
    try:
        with rasterio.open(path) as file:
            count, names, tags = file.count, file.descriptions, file.tags()
    except rasterio.errors.RasterioError as error:
        raise UserError(f"cannot open {path!r} as a raster: {error}") from error
    if sensor == "sentinel2":
        found = sensors.sentinel2_offset(path, tags) if s2_offset == "auto" else int(s2_offset)
        added = found or 0
    try:
        return bands or known.bands(count, names), known.scale(added)
    except UserError as error:
        raise UserError(f"{path!r}: {error}") from error


def _warn(paths: Sequence[str]) -> None:
    """Says how many Sentinel-2 scenes do not tell what was added to their values."""
    import rasterio

    from rsvl_jax.rasters.sensors import sentinel2_offset

    silent = []
    for path in paths:
        with contextlib.suppress(rasterio.errors.RasterioError), rasterio.open(path) as file:
            if sentinel2_offset(path, file.tags()) is None:
                silent.append(path)
    if silent:
        print(
            f"{len(silent)} of {len(paths)} scenes do not tell their processing baseline, as "
            f"{silent[0]!r}: nothing is taken off their values; from 04.00 on (January 2022) give "
            "--s2_offset=1000",
            file=sys.stderr,
        )


def png(pixels: np.ndarray) -> bytes:
    """RGB uint8 [h, w, 3] as PNG."""
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()


def _time(path: str) -> str:
    """The date of a scene by its TIFF tag, or eight digits in its name; "" for none."""
    import rasterio

    with rasterio.open(path) as file:
        tagged = _TIFF_DATE.match(file.tags().get("TIFFTAG_DATETIME", ""))
    found = tagged or _DATE.search(os.path.basename(path))
    return "-".join(found.groups()) if found else ""


def _numbers(flag: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UserError(f"--{flag}={text!r}: give numbers joined by commas") from error
