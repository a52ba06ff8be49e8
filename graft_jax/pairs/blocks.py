"""Train, validation and test by spatial blocks: no tile, photo or ground in two of them.

The Earth is cut into blocks of about equal width, each of one split by a hash of its place. A tile
may stand only where it, and half the gap around it, lies on blocks of one split. So the grounds of
two splits cannot meet; `assert_apart` proves it afterwards on what came out.
"""

import numpy as np

from graft_jax.pairs.hashing import mix
from graft_jax.pairs.local import footprint
from graft_jax.pairs.settings import SPLITS, Settings

_MARGIN = 1.0001  # of a tile's half width: boxes in degrees bulge a little between their corners
_ROWS = 1 << 17


def split_of(lon: np.ndarray, lat: np.ndarray, settings: Settings) -> np.ndarray:
    """Index into SPLITS of the block under each place, int8 [n]; lon may be beyond 180."""
    rows = int(np.ceil(180 / settings.block))
    row = np.clip(np.floor((lat + 90) / settings.block), 0, rows - 1)
    south = -90 + row * settings.block
    poleward = np.minimum(90, np.maximum(np.abs(south), np.abs(south + settings.block)))
    count = np.maximum(1, np.floor(360 / settings.block * np.cos(np.radians(poleward))))
    column = np.floor((lon + 180) % 360 / 360 * count)
    place = (row * 1e6 + np.minimum(column, count - 1)).astype(np.uint64)
    draw = mix(place ^ mix(np.array([settings.seed + 1], np.uint64))) / 2.0**64
    ends = np.cumsum(settings.fractions)[:-1]
    return np.searchsorted(ends, draw, "right").astype(np.int8)


def split_of_tiles(lon: np.ndarray, lat: np.ndarray, settings: Settings) -> np.ndarray:
    """The split of a tile centred at each place, -1 where it would reach into two: int8 [n]."""
    result = np.empty(len(lon), np.int8)
    half = settings.grid.half * _MARGIN + settings.gap_metres / 2
    for first in range(0, len(lon), _ROWS):
        part = slice(first, first + _ROWS)
        west, south, east, north = footprint(lon=lon[part], lat=lat[part], half=half).T
        corners = [split_of(x, y, settings) for x in (west, east) for y in (south, north)]
        same = np.all([corner == corners[0] for corner in corners], axis=0)
        result[part] = np.where(same, corners[0], -1)
    return result


def assert_apart(
    *, split: np.ndarray, box: np.ndarray, tile_of: np.ndarray, photo: np.ndarray
) -> None:
    """Raises AssertionError if two splits share a photo or ground.

    split: of each tile, int8 [T] · box: W, S, E, N degrees of each tile, float64 [T, 4] · tile_of:
    tile of each photo's place in it, int64 [M] · photo: what tells photos apart, [M].
    """
    order = np.lexsort((split[tile_of], photo))
    same = photo[order][1:] == photo[order][:-1]
    splits = split[tile_of][order]
    shared = same & (splits[1:] != splits[:-1])
    assert not shared.any(), f"{shared.sum()} photos are in two splits"
    for first in range(len(SPLITS)):
        for second in range(first + 1, len(SPLITS)):
            touching = _overlaps(box[split == first], box[split == second])
            assert not touching, f"{touching} tiles of {SPLITS[first]} overlap {SPLITS[second]}"


def _overlaps(ours: np.ndarray, theirs: np.ndarray) -> int:
    """How many pairs of boxes overlap, of any with any: a sweep over latitude, bins of longitude.

    Boxes are put into bins as wide as the widest of them, so overlapping ones share a bin.
    """
    if not len(ours) or not len(theirs):
        return 0
    wide = max(np.max(b[:, 2] - b[:, 0]) for b in (ours, theirs))
    tall = max(np.max(b[:, 3] - b[:, 1]) for b in (ours, theirs))
    columns = max(1, int(360 / wide))
    key = _bins(theirs, columns, tall)
    order = np.argsort(key, kind="stable")
    key, boxes = key[order], theirs[order]
    found = 0
    for step in range(-1, 2):
        for turn in range(-1, 2):
            want = _bins(ours, columns, tall, step, turn)
            low, high = np.searchsorted(key, want, "left"), np.searchsorted(key, want, "right")
            for shift in range(int(np.max(high - low, initial=0))):
                mine = np.flatnonzero(low + shift < high)
                found += int(_touch(ours[mine], boxes[low[mine] + shift]).sum())
    return found


def _bins(box: np.ndarray, columns: int, tall: float, step: int = 0, turn: int = 0) -> np.ndarray:
    row = np.floor((box[:, 1] + 90) / tall) + step
    column = (np.floor((box[:, 0] + 180) % 360 / 360 * columns) + turn) % columns
    return (row * (columns + 1) + column).astype(np.int64)


def _touch(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether boxes overlap, also across the antimeridian, bool [n]."""
    apart = (b[:, 0] - a[:, 0] + 180) % 360 - 180  # from a's west to b's
    width = np.where(apart >= 0, a[:, 2] - a[:, 0], b[:, 2] - b[:, 0])
    return (np.abs(apart) < width) & (a[:, 1] < b[:, 3]) & (b[:, 1] < a[:, 3])
