"""Which rasters hold which tiles, over columns of places."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyproj
from affine import Affine
from rasterio.crs import CRS

from graft_jax.pairs import columns
from graft_jax.pairs.local import Grid, to_degrees
from graft_jax.pairs.rasters import Raster
from graft_jax.pairs.settings import LAST_LATITUDE
from rsvl_jax.rasters.ground import pixel_metres

CANDIDATES = 4  # rasters of a tile that are tried in turn
_ROWS = 1 << 17
_EDGE = np.array([(x, y) for x in (-1, -0.5, 0, 0.5, 1) for y in (-1, -0.5, 0, 0.5, 1)])
_RING = _EDGE[np.abs(_EDGE).max(1) == 1]


@dataclasses.dataclass(frozen=True)
class Place:
    """The ground of one or more rasters on one grid, and their numbers in the catalogue."""

    raster: Raster
    members: np.ndarray

    def pixels(self, lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel column and row of places in degrees, infinite where the CRS does not reach."""
        crs = pyproj.CRS.from_wkt(self.raster.crs)
        x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
        transform = Affine(*self.raster.transform)
        if crs.is_geographic:  # meridians have many numbers: take that which follows the left edge
            left = min((transform @ (c, 0))[0] for c in (0, self.raster.width))
            x = left + (np.asarray(x) - left) % 360
        return ~transform @ (np.asarray(x), np.asarray(y))


def places(rasters: Sequence[Raster]) -> list[Place]:
    """The distinct grids, in the order of the catalogue."""
    groups: dict[tuple, list[int]] = {}
    for number, raster in enumerate(rasters):
        groups.setdefault(raster.grid, []).append(number)
    return [Place(rasters[m[0]], np.array(m)) for m in groups.values()]


def holds(place: Place, lon: np.ndarray, lat: np.ndarray, grid: Grid) -> tuple[np.ndarray, ...]:
    """For each place in degrees whether the raster holds the point, and the whole tile: bool [n].

    The tile is asked only where a rough margin leaves a doubt.
    """
    raster = place.raster
    column, row = place.pixels(lon, lat)
    edge = np.minimum.reduce([column, row, raster.width - column, raster.height - row])
    inside = np.isfinite(edge) & (edge >= 0)
    sizes = pixel_metres(
        CRS.from_wkt(raster.crs), Affine(*raster.transform), raster.width, raster.height
    )
    whole = inside & (edge > 3 * grid.half / sizes.min())
    doubt = np.flatnonzero(inside & ~whole & (edge > 0.3 * grid.half / sizes.max()))
    if len(doubt):
        x, y = grid.half * _RING.T[:, :, None]
        around = to_degrees(x=x, y=y, lon0=lon[doubt][None], lat0=lat[doubt][None])
        columns_, rows = place.pixels(*(a.ravel() for a in around))
        fits = (columns_ >= 0) & (columns_ <= raster.width) & (rows >= 0) & (rows <= raster.height)
        whole[doubt] = fits.reshape(len(_RING), -1).all(0)
    return inside, whole


def reach(
    rasters: Sequence[Raster], lon: np.ndarray, lat: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """Whether any raster holds the place, and the whole tile centred on it: two bool [n]."""
    point, tile = np.zeros(len(lon), bool), np.zeros(len(lon), bool)
    for place, index in _near(rasters, lon, lat):
        inside, whole = holds(place, lon[index], lat[index], grid)
        point[index] |= inside
        tile[index] |= whole
    return point, tile


def candidates(
    rasters: Sequence[Raster],
    lon: np.ndarray,
    lat: np.ndarray,
    day: np.ndarray,
    grid: Grid,
    max_days: int,
) -> np.ndarray:
    """The rasters to try for each tile, best first, -1 where there are no more: int32 [n, 4].

    Those that hold the whole tile, by the days between raster and tile (unknown ones last), then
    in the order of the catalogue. max_days: the most such days, 0 for any number.
    """
    best = np.full((len(lon), CANDIDATES), -1, np.int32)
    cost = np.full((len(lon), CANDIDATES), np.inf)
    dates = np.array([raster.day for raster in rasters])
    for place, index in _near(rasters, lon, lat):
        index = index[holds(place, lon[index], lat[index], grid)[1]]
        for number in place.members:
            apart = np.abs(day[index].astype(float) - dates[number])
            known = (day[index] > columns.IMPOSSIBLE) & (dates[number] > columns.IMPOSSIBLE)
            apart = np.where(known, apart, 1e6)
            allowed = (apart <= max_days) if max_days else np.ones(len(index), bool)
            _insert(best, cost, index[allowed], number, apart[allowed])
    return best


def _insert(best: np.ndarray, cost: np.ndarray, index: np.ndarray, number: int, new: np.ndarray):
    """Puts a raster into the lists of tiles at `index`; on equal cost the earlier stays first."""
    costs = np.concatenate([cost[index], new[:, None]], 1)
    lists = np.concatenate([best[index], np.full((len(index), 1), number, np.int32)], 1)
    order = np.argsort(costs, axis=1, kind="stable")[:, :CANDIDATES]
    best[index] = np.take_along_axis(lists, order, 1)
    cost[index] = np.take_along_axis(costs, order, 1)


def _near(
    rasters: Sequence[Raster], lon: np.ndarray, lat: np.ndarray
) -> Iterator[tuple[Place, np.ndarray]]:
    """Each place with the photos in the lon/lat box around it, a part at a time.

    Photos are sorted by latitude once, so that a small raster looks at few of ten million.
    """
    order = np.argsort(lat, kind="stable")
    ordered = lat[order]
    for place in places(rasters):
        west, south, east, north = _box(place.raster)
        low, high = np.searchsorted(ordered, (south, north), ("left"))
        for first in range(int(low), int(high), _ROWS):
            index = order[first : min(first + _ROWS, int(high))]
            index = index[(lon[index] - west) % 360 <= east - west]
            if len(index):
                yield place, index


def _box(raster: Raster) -> tuple[float, float, float, float]:
    """W, S, E, N degrees around a raster, a little wider; E above 180 over the antimeridian."""
    crs = pyproj.CRS.from_wkt(raster.crs)
    transform = Affine(*raster.transform)
    corners = [transform @ (c, r) for c in (0, raster.width) for r in (0, raster.height)]
    (left, right), (bottom, top) = ((min(v), max(v)) for v in zip(*corners, strict=True))
    if crs.is_geographic:
        return left - 1e-6, bottom - 1e-6, min(right, left + 360) + 1e-6, top + 1e-6
    to_lonlat = pyproj.Transformer.from_crs(crs, 4326, always_xy=True)
    west, south, east, north = to_lonlat.transform_bounds(left, bottom, right, top, densify_pts=51)
    east += 360 if east < west else 0
    pad = 0.01 * (1 + north - south)
    return west - pad, south - pad, east + pad, north + pad


def last_latitude(grid: Grid) -> float:
    """Tiles stay this far from the poles, degrees: beyond, a lon/lat box means little."""
    return LAST_LATITUDE - grid.half / 110_574
