"""The greedy cover: photos in the order of a hash become centres unless a tile holds them.

Sequentially: take the photos in order; one that no earlier centre of its season reaches becomes a
centre. Here the same in rounds over all of the Earth: a photo that comes before every other
candidate of its neighbourhood needs to wait for nobody, and all such photos are settled at once.
The result is that of the loop, whatever the grouping (the lexicographically first maximal
independent set; Blelloch, Fineman and Shun 2012), in a few dozen rounds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from graft_jax.pairs.cells import Cells, build, ranges
from graft_jax.pairs.filters import rank_within
from graft_jax.pairs.local import Grid, to_metres
from graft_jax.pairs.photos import Photos
from graft_jax.pairs.settings import Settings

_PAIRS = 1 << 20  # (centre, photo) pairs looked at together


@dataclass(frozen=True)
class Assignment:
    """Tiles and their photos.

    Attributes:
      centre: the photo at the centre of each tile, in tile order, int64 [T].
      start: first photo of each tile in the arrays below, and one past the last, int64 [T + 1].
      photo: photos of the tiles end to end, each tile's centre first, int64 [M].
      x, y: their pixels in the tile, right and down from its left and top edge, float64 [M].
      over_limit: photos that are inside some tile but beyond the limits of all of theirs.
      uncovered: photos that no tile holds.
      small: tiles dropped because they had fewer than the least number of photos.
    """

    centre: np.ndarray
    start: np.ndarray
    photo: np.ndarray
    x: np.ndarray
    y: np.ndarray
    over_limit: int
    uncovered: int
    small: int


def assign(
    photos: Photos, season: np.ndarray, may_centre: np.ndarray, settings: Settings
) -> Assignment:
    """Covers the photos with tiles.

    season: photos share a tile only within one, int32 [n] · may_centre: whether a tile may stand
    there, bool [n].
    """
    grid, priority = settings.grid, photos.priority(settings.seed)
    blocked = 2 * grid.half * settings.spacing
    cells = build(lon=photos.lon, lat=photos.lat, season=season, priority=priority, reach=blocked)
    centres = _centres(photos, cells, priority, may_centre, blocked)
    return _members(photos, cells, priority, centres, grid, settings)


def _centres(
    photos: Photos, cells: Cells, priority: np.ndarray, may_centre: np.ndarray, blocked: float
) -> np.ndarray:
    """Centres so that each candidate is a centre or within `blocked` metres of an earlier one."""
    waiting = cells.order[may_centre[cells.order]]  # by cell, then priority
    source = np.repeat(np.arange(len(cells.start) - 1), np.diff(cells.near_start))
    target = cells.near
    best = np.empty(len(cells.start) - 1, np.uint64)
    found = []
    bar = tqdm(total=len(waiting), desc="placing tiles", unit=" photos", unit_scale=True)
    with bar:
        while len(waiting):
            cell = cells.of[waiting]
            heads = waiting[np.append(True, cell[1:] != cell[:-1])]
            best[:] = np.iinfo(np.uint64).max
            best[cells.of[heads]] = priority[heads]
            alive = best < np.iinfo(np.uint64).max
            live = alive[source] & alive[target]
            source, target = source[live], target[live]
            starts = np.flatnonzero(np.append(True, source[1:] != source[:-1]))
            least = np.minimum.reduceat(best[target], starts)
            winners = heads[least == best[cells.of[heads]]]
            found.append(winners)
            waiting = _uncovered(photos, cells, waiting, winners, (source, target), blocked)
            bar.update(bar.total - len(waiting) - bar.n)
    centres = np.concatenate(found) if found else np.zeros(0, np.int64)
    return centres[np.argsort(cells.of[centres], kind="stable")]


def _uncovered(
    photos: Photos,
    cells: Cells,
    waiting: np.ndarray,
    winners: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    blocked: float,
) -> np.ndarray:
    """The waiting photos (by cell, then priority) that no winner reaches."""
    source, target = pairs
    winner_of = np.full(len(cells.start) - 1, -1, np.int64)
    winner_of[cells.of[winners]] = winners
    chosen = winner_of[source] >= 0
    centre, cell = winner_of[source[chosen]], target[chosen]
    ordered = cells.of[waiting]
    a, b = np.searchsorted(ordered, cell, "left"), np.searchsorted(ordered, cell, "right")
    covered = np.zeros(len(waiting), bool)
    for part in _batches(b - a):
        place = ranges(a[part], b[part])
        near = np.repeat(centre[part], (b - a)[part])
        x, y = _metres(photos, waiting[place], near)
        covered[place[(np.abs(x) < blocked) & (np.abs(y) < blocked)]] = True
        covered[place[waiting[place] == near]] = True
    return waiting[~covered]


def _members(
    photos: Photos,
    cells: Cells,
    priority: np.ndarray,
    centres: np.ndarray,
    grid: Grid,
    settings: Settings,
) -> Assignment:
    """The photos inside each tile, limited, with their pixels."""
    held = np.zeros(len(photos), bool)
    tile, photo, x, y = _inside(photos, cells, centres, grid, held)
    if not settings.share_photos:
        # the nearest centre keeps the photo; the photo at a centre is at its own
        far = (x - grid.size / 2) ** 2 + (y - grid.size / 2) ** 2
        tile, photo, x, y = _take(rank_within(photo, far) == 0, tile, photo, x, y)
    first = np.where(photo == centres[tile], np.uint64(0), priority[photo])
    if settings.per_owner_per_tile:
        owner = photos.owner[photo]
        group = tile * len(photos) + np.unique(owner, return_inverse=True)[1]
        rank = rank_within(group, first)
        kept = (rank < settings.per_owner_per_tile) | (owner == 0)
        tile, photo, x, y, first = _take(kept, tile, photo, x, y, first)
    rank = rank_within(tile, first)
    kept = rank < settings.max_photos
    many = np.bincount(tile, kept, len(centres)) >= settings.min_photos
    tile, photo, x, y, rank = _take(kept & many[tile], tile, photo, x, y, rank)
    order = np.lexsort((rank, tile))
    tile, photo, x, y = _take(order, tile, photo, x, y)
    used = np.zeros(len(photos), bool)
    used[photo] = True
    renumbered = np.cumsum(many) - 1
    start = np.searchsorted(renumbered[tile], np.arange(many.sum() + 1))
    return Assignment(
        centres[many],
        start,
        photo,
        x,
        y,
        over_limit=int((held & ~used).sum()),
        uncovered=int((~held).sum()),
        small=int((~many).sum()),
    )


def _inside(photos: Photos, cells: Cells, centres: np.ndarray, grid: Grid, held: np.ndarray):
    """Every (tile, photo) with the photo on the tile's pixels, and x, y; marks them in `held`."""
    own = cells.of[centres]
    counts = np.diff(cells.near_start)[own]
    tile = np.repeat(np.arange(len(centres)), counts)
    cell = cells.near[ranges(cells.near_start[own], cells.near_start[own + 1])]
    a, b = cells.start[cell], cells.start[cell + 1]
    found = []
    for part in _batches(b - a):
        photo = cells.order[ranges(a[part], b[part])]
        number = np.repeat(tile[part], (b - a)[part])
        x, y = grid.pixels(**dict(zip("xy", _metres(photos, photo, centres[number]), strict=True)))
        ok = (x >= 0) & (x < grid.size) & (y >= 0) & (y < grid.size)
        held[photo[ok]] = True
        found.append((number[ok].astype(np.int32), photo[ok].astype(np.int32), x[ok], y[ok]))
    if not found:
        return tuple(np.zeros(0, kind) for kind in (np.int64, np.int64, float, float))
    tile, photo, x, y = (np.concatenate(column) for column in zip(*found, strict=True))
    return tile.astype(np.int64), photo.astype(np.int64), x, y


def _metres(photos: Photos, index: np.ndarray, centre: np.ndarray):
    return to_metres(
        lon=photos.lon[index],
        lat=photos.lat[index],
        lon0=photos.lon[centre],
        lat0=photos.lat[centre],
    )


def _batches(lengths: np.ndarray) -> Iterator[slice]:
    """Slices of rows whose lengths add up to about `_PAIRS`."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _PAIRS, "right")))
        yield slice(first, last)
        first = last


def _take(index: np.ndarray, *arrays: np.ndarray):
    return tuple(array[index] for array in arrays)
