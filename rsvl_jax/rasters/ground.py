"""How large pixels are on the ground."""

from typing import Any

import numpy as np
import pyproj

from rsvl_jax.errors import UserError

_STEPS = ((0, 0), (1, 0), (0, 1))


class Unusable(UserError):
    """A raster that cannot serve; `reason` is what such rasters are counted under."""

    def __init__(self, reason: str, line: str):
        super().__init__(line)
        self.reason = reason


def pixel_metres(crs: Any, transform: Any, width: int, height: int) -> np.ndarray:
    """Size of the pixels on the ground along x and y at several places, metres, float64 [n].

    crs, transform: the grid's, as rasterio has them. Raises Unusable where it leads off the Earth.
    """
    share = np.linspace(0, 1, 5)[1:-1]
    column, row = np.repeat(share * width, 3), np.tile(share * height, 3)
    to_lonlat = pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(crs.to_wkt()), 4326, always_xy=True)
    at = [to_lonlat.transform(*(transform @ (column + i, row + j))) for i, j in _STEPS]
    if not np.isfinite(at).all():
        raise Unusable("not on the Earth", "its geotransform leads outside of its CRS")
    geod = pyproj.Geod(ellps="WGS84")
    return np.concatenate([geod.inv(*at[0], *other)[2] for other in at[1:]])
