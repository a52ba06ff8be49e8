"""Which coarse tiles there are, and which fine views lie in each.

Tiles are squares of 128 pixels of the mosaic, shown in 32: 30 km a pixel. Views are squares of 32
pixels shown as they are: 7.4 km a pixel. Views lie on a grid of their own, so a view belongs to
every tile that holds it whole, as a photo belongs to every tile that it was taken on.

Tiles are chosen as those of earth_tiles are; views are not. Were those of water or of ice alone
left out, the views of a tile would say less of its water and ice than there is to be seen.
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
    """The views of one tile, in reading order.

    Attributes:
      corners: (row, col) of the top left of each in the mosaic.
      xy: centre of each in pixels of the coarse tile, right and down from its corner, float32
        [P, 2].
    """

    corners: list[tuple[int, int]]
    xy: np.ndarray


def views(row: int, col: int) -> Views:
    """Views of the tile at (row, col): MOST_VIEWS of those inside, drawn by their place alone.

    Tiles that overlap so draw the same views from the ground that they share, as far as they can.
    """
    down = np.arange(-row % VIEW_STRIDE, TILE - VIEW + 1, VIEW_STRIDE)
    across = (np.arange(0, WIDTH, VIEW_STRIDE) - col) % WIDTH
    across = np.sort(across[across <= TILE - VIEW])
    y, x = (axis.ravel() for axis in np.meshgrid(down, across, indexing="ij"))
    rows, cols = row + y, (col + x) % WIDTH
    chosen = np.sort(np.argsort(tiles.scramble(rows, cols), kind="stable")[:MOST_VIEWS])
    corners = list(zip(rows[chosen].tolist(), cols[chosen].tolist(), strict=True))
    centres = (np.stack([x, y], axis=1)[chosen] + VIEW / 2) / ZOOM
    return Views(corners, centres.astype(np.float32))


def full(rasters: Rasters) -> Plan:
    """The coarse tiles; none reaches into the gap between two splits."""
    return tiles.full(rasters, TILE, TILE_STRIDE)


def mini(rasters: Rasters) -> Plan:
    """A hundred tiles and a half of `full`, for tests."""
    return tiles.thinned(full(rasters), MINI)
