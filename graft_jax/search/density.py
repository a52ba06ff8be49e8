"""How similar a region is to texts: tiles put on a grid of longitude and latitude.

A cell's value is the mean over the tiles that reach into it, each weighted by how much of the cell
it covers. GRAFT's Figure 4 maps such densities; the paper does not say how it sums tiles up. Its
demo marks what is above a threshold, which `threshold` does here: the share of tiles above it.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from affine import Affine
from rasterio.crs import CRS

import rsvl_jax
from graft_jax.map import geotiff
from graft_jax.search.index import Index, Places
from graft_jax.search.ranking import Found
from graft_jax.search.settings import Search
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.footprints import Box

_MOST_CELLS = 50_000_000
_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
_NEARLY_ALL = 30.0  # degrees of longitude: a region with no wider gap is the whole Earth
_EXACT = 1e-9


@dataclass(frozen=True)
class Grid:
    """Cells of longitude and latitude, north row first.

    Attributes:
      west, north: the upper left corner · cell: side of a cell, all in degrees.
      rows, columns: how many; columns may go on beyond longitude 180.
    """

    west: float
    north: float
    cell: float
    rows: int
    columns: int

    @property
    def box(self) -> Box:
        """W, S, E, N; E is above 180 across the antimeridian."""
        east = self.west + self.columns * self.cell
        return self.west, self.north - self.rows * self.cell, east, self.north


@dataclass(frozen=True)
class Density:
    """A density map.

    Attributes:
      bands: float32 [Q, rows, columns], NaN where no tile lies.
      weight: tiles that a cell counts, each by the share of it that it covers, float32.
    """

    cells: Grid
    bands: np.ndarray
    weight: np.ndarray


def grid(places: Places, cell: float | None = None, bbox: Box | None = None) -> Grid:
    """The grid over a box, or over all tiles, its lines at multiples of `cell`.

    cell: degrees; None takes a round number near half a tile's height.
    Raises UserError for a grid of too many cells.
    """
    west, south, east, north = bbox or region(places)
    east += 360 if east <= west else 0
    if cell is None:
        cell = round_number(float(np.median(places.bbox[:, 3] - places.bbox[:, 1])) / 2)
    left, top = math.floor(west / cell + _EXACT), math.ceil(north / cell - _EXACT)
    columns = math.ceil(east / cell - _EXACT) - left
    rows = top - math.floor(south / cell + _EXACT)
    columns = min(columns, math.ceil(360 / cell - _EXACT))
    if rows * columns > _MOST_CELLS:
        raise UserError(
            f"--cell={cell:g} makes {columns:,} x {rows:,} cells of this region: give a larger "
            "one, or a smaller --bbox"
        )
    return Grid(left * cell, top * cell, cell, max(rows, 1), max(columns, 1))


def region(places: Places) -> Box:
    """W, S, E, N around all footprints; E is above W, and above 180 across the antimeridian."""
    order = np.argsort(places.bbox[:, 0], kind="stable")
    starts = places.bbox[order, 0]
    reach = np.maximum.accumulate(starts + widths(places)[order])
    reach = np.maximum(reach, reach[-1] - 360)  # what comes around covers the first ones' west
    gaps = np.append(starts[1:], starts[0] + 360) - reach
    last = int(np.argmax(gaps))
    west, east = starts[(last + 1) % len(starts)], reach[last]
    if gaps[last] < _NEARLY_ALL:
        west, east = -180.0, 180.0
    south, north = places.bbox[:, 1].min(), places.bbox[:, 3].max()
    return float(west), float(south), float(east + 360 * (east <= west)), float(north)


def widths(places: Places) -> np.ndarray:
    """Degrees of longitude that each tile covers, float64 [m]."""
    west, _, east, _ = places.bbox.T
    return np.where(east - west >= 360, 360.0, (east - west) % 360)


def round_number(value: float) -> float:
    """The nearest of 1, 2, 2.5, 5, 10, ... in proportion."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * min(_NICE, key=lambda step: abs(math.log(value / power / step)))


def means(values: np.ndarray, places: Places, cells: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Means of values [m, Q] by cell, float32 [Q, rows, columns], NaN where no tile lies.

    And the sum of the tiles' weights, float32 [rows, columns]: 1 is one tile that covers the cell.
    """
    down, across = _shares(places, cells)
    weight = (down.T @ across).toarray()
    found = np.full((values.shape[1], *weight.shape), np.nan, np.float32)
    seen = weight > _EXACT
    for band, column in zip(found, values.T, strict=True):
        total = (down.T @ across.multiply(column[:, None]).tocsr()).toarray()
        band[seen] = total[seen] / weight[seen]
    return found, weight.astype(np.float32)


def _shares(places: Places, cells: Grid) -> tuple[scipy.sparse.csr_array, scipy.sparse.csr_array]:
    """The share of each row, [m, rows], and of each column, [m, columns], that a tile covers."""
    west, south, _, north = places.bbox.T
    # A tile is there twice: from its start after the western edge, and 360 degrees before.
    starts = ((west - cells.west) % 360 - around for around in (0, 360))
    width = widths(places)
    across = sum(
        _overlaps(start / cells.cell, (start + width) / cells.cell, cells.columns)
        for start in starts
    )
    top, bottom = (cells.north - north) / cells.cell, (cells.north - south) / cells.cell
    return _overlaps(top, bottom, cells.rows), across


def _overlaps(start: np.ndarray, stop: np.ndarray, count: int) -> scipy.sparse.csr_array:
    """Lengths that intervals [m] share with [0, 1], [1, 2], ..., sparse float64 [m, count]."""
    first = np.clip(np.floor(start + _EXACT), 0, count).astype(int)
    last = np.clip(np.ceil(stop - _EXACT), 0, count).astype(int)
    number = np.maximum(last - first, 0)
    tile = np.repeat(np.arange(len(start)), number)
    cell = np.arange(len(tile)) - np.repeat(np.cumsum(number) - number, number) + first[tile]
    share = np.minimum(stop[tile], cell + 1) - np.maximum(start[tile], cell)
    shape = len(start), count
    return scipy.sparse.csr_array((np.clip(share, 0, 1), (tile, cell)), shape=shape)


def compute(found: Found, settings: Search) -> Density:
    """The density map that a search asks for. Raises UserError for a grid of too many cells."""
    cells = grid(found.places, settings.cell, settings.bbox)
    values = found.scores
    if settings.threshold is not None:
        values = (values >= settings.threshold).astype(float)
    return Density(cells, *means(values, found.places, cells))


def write(path: str, density: Density, found: Found, index: Index, settings: Search) -> None:
    """Writes a GeoTIFF: a float32 band a query, NaN where no tile lies, then `weight`."""
    cells = density.cells
    raster = geotiff.Raster(
        crs=CRS.from_epsg(4326),
        transform=Affine(cells.cell, 0, cells.west, 0, -cells.cell, cells.north),
        width=cells.columns,
        height=cells.rows,
        names=[*found.queries, "tiles"],
        tags=_tags(found, index, settings),
    )
    with geotiff.create(path, raster) as file:
        file.write(np.concatenate([density.bands, density.weight[None]]))


def _tags(found: Found, index: Index, settings: Search) -> dict[str, str]:
    """How the map came about, so that it can be made again."""
    share = settings.threshold is not None
    value = f"share of tiles with cosine >= {settings.threshold:g}" if share else "mean cosine"
    tags = {
        "software": f"rsvl-jax {rsvl_jax.__version__}, graft_jax.search",
        "value": f"{value}, of the tiles of a cell weighted by the share of it that they cover",
        "tiles": f"{len(found.places)} of {index.about.made_of}",
        "model": index.about.model,
        "templates": " | ".join(settings.templates),
        "after": str(settings.after or ""),
        "before": str(settings.before or ""),
    }
    return tags | {f"query_{n}": query for n, query in enumerate(found.queries)}
