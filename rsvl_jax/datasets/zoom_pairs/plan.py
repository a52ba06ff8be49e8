"""Which coarse tiles there are, and which fine views lie in each.

Tiles are squares of 128 pixels of the mosaic, shown in 32: 30 km a pixel. Views are squares of 32
pixels shown as they are: 7.4 km a pixel. Views lie on a grid of their own, so a view belongs to
every tile that holds it whole, as a photo belongs to every tile that it was taken on.
"""

from dataclasses import dataclass

import numpy as np

from rsvl_jax.datasets.earth_tiles import tiles
from rsvl_jax.datasets.earth_tiles.rasters import WIDTH, Rasters
from rsvl_jax.datasets.earth_tiles.tiles import Plan

TILE, TILE_STRIDE = 128, 24
VIEW, VIEW_STRIDE = 32, 16
ZOOM = TILE // VIEW  # both are shown in 32 pixels
MOST_VIEWS = 16
MINI = (80, 32, 32)


@dataclass(frozen=True)
class Views:
    """The views of one tile, in reading order; every attribute has one entry a view.

    Attributes:
      row, col: top left corner in the mosaic, int64 [P].
      label: of the view's own window, as those of tiles, int64 [P].
      xy: centre in pixels of the coarse tile, right and down from its corner, float32 [P, 2].
    """

    row: np.ndarray
    col: np.ndarray
    label: np.ndarray
    xy: np.ndarray

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(row, col) of each view."""
        return list(zip(self.row.tolist(), self.col.tolist(), strict=True))


class Grid:
    """Every view of the Earth that has enough land and something to see."""

    def __init__(self, rasters: Rasters):
        found = tiles.candidates(rasters, VIEW, VIEW_STRIDE)
        self._row, self._col, self._label = found.row, found.col, found.label
        self._order = tiles.scramble(found.row, found.col)

    def inside(self, row: int, col: int) -> Views:
        """Views of the tile at (row, col): at most MOST_VIEWS, the same choice in every tile."""
        room = TILE - VIEW
        first, last = np.searchsorted(self._row, (row, row + room + 1))
        x = (self._col[first:last] - col) % WIDTH
        found = first + np.flatnonzero(x <= room)
        found = np.sort(found[np.argsort(self._order[found], kind="stable")][:MOST_VIEWS])
        xy = np.stack([(self._col[found] - col) % WIDTH, self._row[found] - row], axis=1)
        centres = ((xy + VIEW / 2) / ZOOM).astype(np.float32)
        return Views(self._row[found], self._col[found], self._label[found], centres)


def full(rasters: Rasters, grid: Grid) -> Plan:
    """The coarse tiles that hold a view; none reaches into the gap between two splits."""
    return _with_views(tiles.full(rasters, TILE, TILE_STRIDE), grid)


def mini(rasters: Rasters, grid: Grid) -> Plan:
    """A hundred tiles and a half of `full`, for tests."""
    return _with_views(tiles.thinned(tiles.full(rasters, TILE, TILE_STRIDE), MINI), grid)


def _with_views(plan: Plan, grid: Grid) -> Plan:
    places = zip(plan.row.tolist(), plan.col.tolist(), strict=True)
    return plan.take(np.flatnonzero([len(grid.inside(row, col).row) > 0 for row, col in places]))
