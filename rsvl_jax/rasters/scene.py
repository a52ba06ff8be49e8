"""A georeferenced scene of any size as RGB pixels by window, at the ground resolution asked for."""

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from rsvl_jax.errors import UserError
from rsvl_jax.rasters.ground import pixel_metres

_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_CACHE = 256 * 2**20  # bytes of decoded blocks that GDAL keeps; rasterio takes bytes, not MB
_SAMPLE = 1024  # pixels a side, at most, that percentiles are measured on
_TRUE_SCALE = 0.02  # a projection that is off by less is taken at its word
_SAME = 1e-3  # pixels that differ by less in size are not resampled


@dataclass(frozen=True)
class View:
    """How a scene is looked at.

    Attributes:
      bands: numbers from 1 of red, green and blue, or of one that is shown grey; () takes those
        so marked, or the first three, or the first.
      scale: values shown black and white, or three such pairs, for red, green and blue; None takes
        8-bit values as they are, unless per_band, and measures others.
      percentiles: what is measured, over the three bands together, so that colours keep their hue.
      per_band: measure each band by itself: takes out haze, and shifts hues.
      gsd: metres a pixel that the model shall see; None takes the scene's own pixels.
    """

    bands: tuple[int, ...] = ()
    scale: tuple[float, ...] | None = None
    percentiles: tuple[float, float] = (2.0, 98.0)
    per_band: bool = False
    gsd: float | None = None

    def __post_init__(self) -> None:
        if len(self.bands) not in (0, 1, 3) or any(band < 1 for band in self.bands):
            raise UserError(f"bands {self.bands} must be one or three numbers from 1, as 4,3,2")
        if self.scale is not None and not all(low < high for low, high in pairs(self.scale)):
            raise UserError(f"scale {self.scale} must be pairs of rising values, such as 0,3000")
        if self.scale is not None and self.per_band:
            raise UserError("--per_band measures what --scale already says: leave one out")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise UserError(f"percentiles {self.percentiles} must rise from 0 to 100, as 2,98")
        if self.gsd is not None and not 0 < self.gsd < math.inf:
            raise UserError(f"a ground resolution of {self.gsd:g} m must be above 0")


@dataclass(frozen=True)
class Scene:
    """An open scene. One thread may read at a time.

    Attributes:
      name: its path(s) as given.
      crs, transform, width, height: of the grid that is read.
      ground: metres that a pixel of the grid is wide and high at the centre.
      bands: numbers of red, green and blue; of one band if it is grey.
      scale: values shown black and white, of all bands or one after the other; None for 8-bit
        values as they are.
    """

    name: str
    crs: Any
    transform: Affine
    width: int
    height: int
    ground: tuple[float, float]
    bands: tuple[int, ...]
    scale: tuple[float, ...] | None
    files: tuple[tuple[Any, tuple[int, ...]], ...]

    def read(
        self, row: int, column: int, height: int, width: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A window inside the scene, square without a width: RGB uint8 [h, w, 3], valid [h, w].

        Raises UserError where the file cannot be read.
        """
        width = height if width is None else width
        window = Window(column, row, width, height)
        return self._shown(*self._values((height, width), window))

    def preview(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole scene, the longer side at most `side` pixels."""
        return self._shown(*self._values(shrunk(self.height, self.width, side)))

    def _values(
        self, shape: tuple[int, int], window: Window | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values [1 or 3, h, w] and valid [h, w]."""
        parts, valid = [], np.ones(shape, bool)
        try:
            with gdal():  # its settings hold for one thread only
                for file, bands in self.files:
                    size = (len(bands), *shape)
                    parts.append(file.read(bands, window=window, out_shape=size))
                    valid &= file.read_masks(bands, window=window, out_shape=size).any(axis=0)
        except rasterio.errors.RasterioError as error:
            raise UserError(f"{self.name!r} cannot be read: {_line(error)}") from error
        values = np.concatenate(parts)
        return values, valid & np.isfinite(values).all(axis=0)

    def _shown(self, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.scale is not None:
            low, high = pairs(self.scale).T[..., None, None].astype(np.float32)
            share = (np.nan_to_num(values.astype(np.float32)) - low) / (high - low)
            values = np.round(255 * np.clip(share, 0, 1))
        rgb = np.broadcast_to(values, (3, *valid.shape))
        return np.where(valid, rgb, 0).astype(np.uint8).transpose(1, 2, 0), valid

    def measured(self, view: View) -> tuple[float, ...]:
        """Percentiles of the valid values, on a sample: of all bands together, or of each.

        Raises UserError where there is no valid pixel, or all are equal.
        """
        values, valid = self._values(shrunk(self.height, self.width, _SAMPLE))
        if not valid.any():
            raise UserError(f"{self.name!r} has no valid pixel: all are nodata")
        bands = values[:, valid] if view.per_band else values[:, valid].reshape(1, -1)
        found = tuple(float(v) for v in np.percentile(bands, view.percentiles, axis=1).T.ravel())
        for low, high in pairs(found):
            if low == high:
                raise UserError(
                    f"values of {self.name!r} are all {low:g}: give --scale=BLACK,WHITE"
                )
        return found


def pairs(scale: Sequence[float]) -> np.ndarray:
    """Black and white of a scale, float64 [1 or 3, 2]."""
    return np.reshape(np.asarray(scale, np.float64), (-1, 2))


def gdal() -> rasterio.Env:
    """Settings of one thread: a bounded cache, remote files by range without listing folders."""
    return rasterio.Env(
        GDAL_CACHEMAX=_CACHE,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_HTTP_MAX_RETRY=3,
        GDAL_HTTP_RETRY_DELAY=1,
    )


def shrunk(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width, the longer one at most `side`."""
    factor = min(1.0, side / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


@contextlib.contextmanager
def open_scene(source: str, view: View) -> Iterator[Scene]:
    """Opens a GeoTIFF, VRT, JPEG 2000, ..., or three of them, one a band: "r.jp2,g.jp2,b.jp2".

    Raises UserError for what cannot be opened, has no CRS, geotransform or such bands, has a
    colour table or complex values, or is coarser than a pixel of the view.
    """
    paths = [source] if os.path.exists(source) else source.split(",")
    with contextlib.ExitStack() as stack:
        stack.enter_context(gdal())
        datasets = [stack.enter_context(_opened(path)) for path in paths]
        files = _files(datasets, view, source)
        first = datasets[0]
        ground = _ground(first)
        grid, size = first.transform, (first.width, first.height)
        if view.gsd is not None:
            steps = view.gsd / ground[0], view.gsd / ground[1]
            if max(abs(step - 1) for step in steps) > _SAME:
                grid, size, files = _resampled(datasets, files, steps, stack, source)
                ground = view.gsd, view.gsd
        bands = tuple(band for _, numbers in files for band in numbers)
        if view.scale is not None and len(view.scale) > 2 and len(bands) == 1:
            raise UserError(f"--scale of three bands for the one of {source!r}: give BLACK,WHITE")
        scene = Scene(source, first.crs, grid, *size, ground, bands, view.scale, files)
        deep = any(dataset.dtypes[0] != "uint8" for dataset in datasets)
        if view.scale is None and (deep or view.per_band):
            scale = scene.measured(view)
            scene = Scene(source, first.crs, grid, *size, ground, bands, scale, files)
        yield scene


def _opened(path: str) -> Any:
    try:
        dataset = rasterio.open(path)
    except rasterio.errors.RasterioError as error:
        raise UserError(f"cannot open --input={path!r} as a raster: {_line(error)}") from error
    wrong = ""
    if dataset.crs is None:
        wrong = "has no CRS: assign one, e.g. with gdal_edit -a_srs"
    elif dataset.transform.is_identity:
        wrong = "has no geotransform: georeference it first"
    elif ColorInterp.palette in dataset.colorinterp:
        wrong = "has a colour table: expand it with gdal_translate -expand rgb"
    elif "complex" in dataset.dtypes[0]:
        wrong = f"has values of type {dataset.dtypes[0]}: give their magnitude"
    if wrong:
        dataset.close()
        raise UserError(f"--input={path!r} {wrong}")
    return dataset


def _files(datasets: Sequence[Any], view: View, source: str) -> tuple[tuple[Any, Any], ...]:
    """Each dataset with the bands to read of it."""
    first = datasets[0]
    if len(datasets) == 1:
        numbers = view.bands or _marked(first)
        if max(numbers) > first.count:
            raise UserError(f"{source!r} has {first.count} bands, not {max(numbers)}: see --bands")
        return ((first, numbers),)
    if len(datasets) != 3:
        raise UserError(f"{source!r} are {len(datasets)} files: give one, or red,green,blue")
    grids = [(d.crs, d.transform, d.width, d.height) for d in datasets]
    if grids.count(grids[0]) != 3:
        raise UserError(f"the files of {source!r} lie on different grids: resample them to one")
    return tuple((dataset, view.bands[:1] or (1,)) for dataset in datasets)


def _marked(dataset: Any) -> tuple[int, ...]:
    marked = dataset.colorinterp
    if all(colour in marked for colour in _RGB):
        return tuple(marked.index(colour) + 1 for colour in _RGB)
    return (1, 2, 3) if dataset.count >= 3 else (1,)


def _ground(dataset: Any) -> tuple[float, float]:
    """Metres that a pixel is wide and high at the centre of the scene."""
    crs, grid = dataset.crs, dataset.transform
    sizes = pixel_metres(crs, grid, dataset.width, dataset.height).reshape(2, -1)
    true = [float(size[size.size // 2]) for size in sizes]
    if crs.is_projected:
        unit = crs.linear_units_factor[1]
        nominal = math.hypot(grid.a, grid.d) * unit, math.hypot(grid.b, grid.e) * unit
        if all(abs(n / t - 1) < _TRUE_SCALE for n, t in zip(nominal, true, strict=True)):
            return nominal
    return true[0], true[1]


def _resampled(
    datasets: Sequence[Any],
    files: Sequence[tuple[Any, Any]],
    steps: tuple[float, float],
    stack: contextlib.ExitStack,
    source: str,
) -> tuple[Affine, tuple[int, int], tuple[tuple[Any, Any], ...]]:
    """Grid, size and files whose pixels are `steps` of the scene's, with the same corner."""
    first = datasets[0]
    grid = first.transform @ Affine.scale(*steps)
    # Whole pixels only; a hair is given so that 1000 pixels at a tenth are 100.
    size = int(first.width / steps[0] + _SAME), int(first.height / steps[1] + _SAME)
    if min(size) < 1:
        raise UserError(f"{source!r} is smaller than one pixel at this --gsd: give a finer one")
    method = Resampling.average if max(steps) > 1 else Resampling.bilinear
    warped = [
        stack.enter_context(
            WarpedVRT(
                dataset,
                crs=dataset.crs,
                transform=grid,
                width=size[0],
                height=size[1],
                resampling=method,
            )
        )
        for dataset in datasets
    ]
    return grid, size, tuple((w, bands) for w, (_, bands) in zip(warped, files, strict=True))


def _line(error: BaseException) -> str:
    """The error and what caused it, in one line; rasterio hides the reason in the cause."""
    words = str(error.__cause__ or error)
    return " ".join(words.split())[:200]
