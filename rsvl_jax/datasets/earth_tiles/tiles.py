"""Which tiles there are: a regular grid of squares over land, with their labels and splits."""

import functools
from dataclasses import dataclass

import numpy as np

from rsvl_jax.datasets.earth_tiles import classes, splits
from rsvl_jax.datasets.earth_tiles.classes import Kind
from rsvl_jax.datasets.earth_tiles.rasters import HEIGHT, PER_DEGREE, WIDTH, Rasters

SIZE = 64
STRIDE = 20
CELL = 4  # divides SIZE, STRIDE and the grid
NORTH, SOUTH = 76.2, -60.0  # edges: further north a tile is four times as tall as it is wide
LAND_SHARE = 0.15
FEATURELESS = 5.0  # standard deviation of the grey values, of 255


@dataclass(frozen=True)
class Plan:
    """Tiles in reading order; every attribute has one entry a tile.

    Attributes:
      row, col: top left corner on the grid, int64 [M].
      label: index into `classes.CLASSES` or AMBIGUOUS, int64 [M].
      split: index into `splits.SPLITS`, int64 [M].
      block: geographic block of the centre, int64 [M].
    """

    row: np.ndarray
    col: np.ndarray
    label: np.ndarray
    split: np.ndarray
    block: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, index: np.ndarray) -> "Plan":
        """The tiles at `index`, in that order."""
        return Plan(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def candidates(rasters: Rasters, size: int = SIZE, stride: int = STRIDE) -> Plan:
    """Every tile with enough land and something to see, before splits part them (split -1).

    size, stride: of the tiles and of their grid, pixels, multiples of CELL.
    """
    top = np.arange(0, HEIGHT - size + 1, stride)
    north, south = 90 - top / PER_DEGREE, 90 - (top + size) / PER_DEGREE
    top = top[(north <= NORTH) & (south >= SOUTH)]
    left = np.arange(0, WIDTH, stride)
    means = functools.partial(_means, top=top, left=left, size=size)
    shares = np.stack([means(rasters.cover == kind) for kind in Kind], -1)
    grey = rasters.image.mean(-1, dtype=np.float32)
    spread = np.sqrt(np.maximum(means(grey**2) - means(grey) ** 2, 0))
    kept = (shares[..., Kind.WATER] <= 1 - LAND_SHARE) & (spread >= FEATURELESS)
    i, j = np.nonzero(kept)
    row, col = top[i], left[j]
    label = classes.labels(shares[i, j])
    return Plan(row, col, label, np.full(len(row), -1), splits.block_of(row, col, size))


def full(rasters: Rasters, size: int = SIZE, stride: int = STRIDE) -> Plan:
    """The tiles of the data set; those that reach into the gap between two splits are left out."""
    everything = candidates(rasters, size, stride)
    split = splits.split_of(everything.row, everything.col, size)
    kept = np.flatnonzero(split >= 0)
    return Plan(**(everything.take(kept).__dict__ | {"split": split[kept]}))


def mini(rasters: Rasters, counts: tuple[int, ...] = (240, 60, 60)) -> Plan:
    """A few hundred tiles of `full`: `counts` of each split, the labels as even as can be."""
    return thinned(full(rasters), counts)


def thinned(plan: Plan, counts: tuple[int, ...]) -> Plan:
    """`counts` tiles of each split of a plan, the labels as even as can be."""
    chosen = []
    for split, count in enumerate(counts):
        rows = np.flatnonzero(plan.split == split)
        shuffled = rows[np.argsort(scramble(plan.row[rows], plan.col[rows]), kind="stable")]
        turn = _rank_within(plan.label[shuffled])
        chosen.append(shuffled[np.argsort(turn, kind="stable")][:count])
    return plan.take(np.sort(np.concatenate(chosen)))


def bounds(row: int, col: int, size: int = SIZE) -> tuple[float, float, float, float]:
    """West, south, east, north edge of a tile, degrees; east exceeds 180 past the antimeridian."""
    west, north = col / PER_DEGREE - 180, 90 - row / PER_DEGREE
    return west, north - size / PER_DEGREE, west + size / PER_DEGREE, north


def centre(row: int, col: int, size: int = SIZE) -> tuple[float, float]:
    """Longitude (in [-180, 180)) and latitude of the centre of a tile, degrees."""
    west, south, east, north = bounds(row, col, size)
    return ((west + east) / 2 + 180) % 360 - 180, (south + north) / 2


def _means(raster: np.ndarray, *, top: np.ndarray, left: np.ndarray, size: int) -> np.ndarray:
    """Mean over the size x size squares at every (top, left): float64 [len(top), len(left)].

    From a summed-area table of the cells that all squares are made of; the raster is continued
    past the antimeridian.
    """
    rows, cols = HEIGHT // CELL, WIDTH // CELL
    cells = raster.reshape(rows, CELL, cols, CELL).sum((1, 3), dtype=np.float64)
    side = size // CELL
    table = np.zeros((rows + 1, cols + side + 1))
    table[1:, 1:] = np.concatenate([cells, cells[:, :side]], 1).cumsum(0).cumsum(1)
    top, left = top // CELL, left // CELL
    upper, lower = table[top], table[top + side]
    total = lower[:, left + side] - lower[:, left] - upper[:, left + side] + upper[:, left]
    return total / size**2


def scramble(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """A fixed random-looking uint64 of each position (SplitMix64's finaliser)."""
    x = (row.astype(np.uint64) << np.uint64(32)) ^ col.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _rank_within(label: np.ndarray) -> np.ndarray:
    """How many earlier entries have the same label: the round in which each entry is taken."""
    rank = np.empty(len(label), np.int64)
    for value in np.unique(label):
        members = np.flatnonzero(label == value)
        rank[members] = np.arange(len(members))
    return rank
