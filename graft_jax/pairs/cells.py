"""Bins of photos by season and place, about as wide as a tile's reach, and who neighbours whom."""

from dataclasses import dataclass

import numpy as np

_DEGREE = 111_320.0  # metres of a degree along the equator; a degree of latitude is 110,574 or more
_LAT_DEGREE = 110_574.0


@dataclass(frozen=True)
class Cells:
    """The occupied cells, in order of season, row from the south and column from 180 W.

    Attributes:
      start: first photo of each cell in `order`, and one past the last, int64 [cells + 1].
      order: photos by cell and, inside a cell, by priority, int64 [n].
      of: the cell of each photo, int64 [n].
      near: neighbouring cells (itself among them), end to end, int64.
      near_start: first of each cell's neighbours in `near`, and one past, int64 [cells + 1].
    """

    start: np.ndarray
    order: np.ndarray
    of: np.ndarray
    near: np.ndarray
    near_start: np.ndarray


def build(
    *, lon: np.ndarray, lat: np.ndarray, season: np.ndarray, priority: np.ndarray, reach: float
) -> Cells:
    """Cells such that photos within `reach` metres east-west and north-south are neighbours.

    A tile's square turns against the parallels away from its centre, by no more than the slack in
    the cells' width. Columns close at the antimeridian; a row has as many as its poleward edge.
    """
    width = reach * (1.02 + reach / 2e5)
    layout = _Layout.of_width(width)
    row = layout.row(lat)
    column = layout.column(row, lon)
    key = (season.astype(np.int64) * layout.rows + row) * layout.most + column
    order = np.lexsort((priority, key))
    ordered = key[order]
    start = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(key)])
    keys = ordered[start]
    of = np.empty(len(key), np.int64)
    of[order] = np.repeat(np.arange(len(start)), np.diff(np.append(start, len(key))))
    near, near_start = _neighbours(keys, layout, width)
    return Cells(np.append(start, len(key)), order, of, near, near_start)


@dataclass(frozen=True)
class _Layout:
    """Rows of equal height in degrees, each cut into a whole number of columns."""

    height: float
    columns: np.ndarray  # of each row

    @property
    def rows(self) -> int:
        return len(self.columns)

    @property
    def most(self) -> int:
        return int(self.columns.max())

    @classmethod
    def of_width(cls, width: float) -> "_Layout":
        rows = max(1, int(180 * _LAT_DEGREE / width))
        height = 180 / rows
        edges = -90 + height * np.arange(rows + 1)
        poleward = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
        around = 360 * _DEGREE * np.cos(np.radians(np.minimum(poleward, 90)))
        return cls(height, np.maximum(1, (around / width).astype(np.int64)))

    def row(self, lat: np.ndarray) -> np.ndarray:
        return np.clip(np.floor((lat + 90) / self.height), 0, self.rows - 1).astype(np.int64)

    def poleward(self, row: np.ndarray) -> np.ndarray:
        """Latitude of the edge of a row that is nearer to a pole, degrees without sign."""
        south = -90 + self.height * row
        return np.minimum(90, np.maximum(np.abs(south), np.abs(south + self.height)))

    def column(self, row: np.ndarray, lon: np.ndarray) -> np.ndarray:
        count = self.columns[row]
        return np.floor((lon + 180) / 360 * count).astype(np.int64) % count


def _neighbours(keys: np.ndarray, layout: _Layout, width: float):
    """Occupied cells within a cell's width of each occupied cell: `near` and `near_start`."""
    above, column = np.divmod(keys, layout.most)
    season, row = np.divmod(above, layout.rows)
    count = layout.columns[row]
    west, east = column / count * 360, (column + 1) / count * 360
    found = []
    for step in (-1, 0, 1):
        other = row + step
        inside = (other >= 0) & (other < layout.rows)
        other = np.clip(other, 0, layout.rows - 1)
        edge = np.maximum(layout.poleward(row), layout.poleward(other))
        reach = np.minimum(360, width / (_DEGREE * np.maximum(np.cos(np.radians(edge)), 1e-9)))
        there = layout.columns[other]
        first = np.floor((west - reach) / 360 * there).astype(np.int64)
        last = np.minimum(np.floor((east + reach) / 360 * there), first + there - 1).astype(
            np.int64
        )
        base = (season * layout.rows + other) * layout.most
        # the part on this side of the seam, and the parts that come round from either end
        for turn in (0, there, -there):
            low, high = np.maximum(first + turn, 0), np.minimum(last + turn, there - 1)
            ok = inside & (low <= high)
            a = np.searchsorted(keys, (base + low)[ok], "left")
            b = np.searchsorted(keys, (base + high)[ok], "right")
            found.append((np.flatnonzero(ok), a, b))
    cell = np.concatenate([f[0] for f in found])
    a, b = (np.concatenate([f[i] for f in found]) for i in (1, 2))
    return _joined(cell, a, b, len(keys))


def _joined(cell: np.ndarray, a: np.ndarray, b: np.ndarray, cells: int):
    """Ranges [a, b) of each cell as one sorted list a cell, each neighbour once."""
    source = np.repeat(cell, b - a)
    target = ranges(a, b)
    pair = np.unique(source * cells + target)
    source, target = np.divmod(pair, cells)
    return target, np.searchsorted(source, np.arange(cells + 1))


def ranges(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The integers of all ranges [a, b), end to end, int64."""
    lengths = b - a
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(a - (ends - lengths), lengths)
