"""The greedy cover against a plain loop, its rules, and the splits."""

import numpy as np
import pytest

from graft_jax.pairs import blocks, cover, local
from graft_jax.pairs.photos import Photos
from graft_jax.pairs.settings import Settings


def make(count=1500, *, lon=179.98, lat=-41.0, spread=0.06, seed=0, owners=40):
    """Photos around a place, by default one that the antimeridian crosses."""
    rng = np.random.default_rng(seed)
    lons = (lon + rng.normal(0, spread, count) + 180) % 360 - 180
    lats = lat + rng.normal(0, spread, count)
    key = rng.permutation(count).astype(np.uint64) + np.uint64(1)
    owner = rng.integers(1, owners, count).astype(np.uint64)
    return Photos(lons, lats, np.zeros(count, np.int32), key, owner, np.arange(count))


def settings(**changes):
    base = {"photos": ("p",), "rasters": ("r",), "gsd": 10.0, "size": 64, "block": 0.1, "gap": 0}
    return Settings(**(base | changes))


def offsets(photos, centre, rows):
    there = [np.full(len(rows), v[centre]) for v in (photos.lon, photos.lat)]
    return local.to_metres(lon=photos.lon[rows], lat=photos.lat[rows], lon0=there[0], lat0=there[1])


def loop(photos, season, may_centre, blocked):
    """The rule as it is told: in order of priority, unless an earlier centre reaches it."""
    centres = []
    for photo in np.argsort(photos.priority(0)):
        same = [c for c in centres if season[c] == season[photo]]
        reached = False
        for centre in same:
            x, y = offsets(photos, centre, np.array([photo]))
            reached |= bool(abs(x[0]) < blocked and abs(y[0]) < blocked)
        if may_centre[photo] and not reached:
            centres.append(int(photo))
    return set(centres)


@pytest.mark.parametrize("lat", [-41.0, 0.001, 70.0])
@pytest.mark.parametrize("spacing", [0.5, 1.0])
def test_rounds_equal_the_loop(lat, spacing):
    photos, rules = make(400, lat=lat), settings(spacing=spacing)
    season = np.random.default_rng(1).integers(0, 2, len(photos)).astype(np.int32)
    may_centre = np.random.default_rng(2).random(len(photos)) < 0.8
    got = cover.assign(photos, season, may_centre, rules)
    assert set(got.centre.tolist()) == loop(photos, season, may_centre, 640 * spacing)
    assert np.any(photos.lon[got.centre] < 0) and np.any(photos.lon[got.centre] > 0)


def test_members_are_all_photos_on_the_tile():
    photos, rules = make(), settings(max_photos=10**6)
    season = np.zeros(len(photos), np.int32)
    got = cover.assign(photos, season, np.ones(len(photos), bool), rules)
    everyone = np.arange(len(photos))
    for tile, centre in enumerate(got.centre):
        x, y = offsets(photos, centre, everyone)
        inside = (np.abs(x) < 320) & (np.abs(y) < 320)
        members = got.photo[got.start[tile] : got.start[tile + 1]]
        assert set(members.tolist()) == set(np.flatnonzero(inside).tolist())
    assert got.uncovered == 0 and got.over_limit == 0


def test_limits_and_sharing():
    photos, rules = make(spread=0.01), settings(max_photos=4, per_owner_per_tile=1)
    season = np.zeros(len(photos), np.int32)
    may_centre = np.ones(len(photos), bool)
    got = cover.assign(photos, season, may_centre, rules)
    for tile, centre in enumerate(got.centre):
        members = got.photo[got.start[tile] : got.start[tile + 1]]
        assert 1 <= len(members) <= 4 and members[0] == centre
        assert len(set(photos.owner[members].tolist())) == len(members)
    assert got.over_limit + len(np.unique(got.photo)) == len(photos)
    alone = cover.assign(photos, season, may_centre, settings(share_photos=False))
    assert len(np.unique(alone.photo)) == len(alone.photo)
    crowded = cover.assign(photos, season, may_centre, settings(min_photos=20))
    assert np.diff(crowded.start).min() >= 20 and crowded.small > 0


def test_order_of_the_rows_changes_nothing():
    photos, rules = make(), settings()
    season = np.zeros(len(photos), np.int32)
    shuffle = np.random.default_rng(3).permutation(len(photos))
    first = cover.assign(photos, season, np.ones(len(photos), bool), rules)
    second = cover.assign(photos.take(shuffle), season, np.ones(len(photos), bool), rules)
    np.testing.assert_array_equal(photos.key[first.centre], photos.take(shuffle).key[second.centre])
    np.testing.assert_array_equal(photos.key[first.photo], photos.take(shuffle).key[second.photo])


def test_a_tile_stands_on_one_split_with_its_gap():
    photos, rules = make(20000, spread=0.3), settings(gap=500.0, fractions=(0.5, 0.25, 0.25))
    split = blocks.split_of_tiles(photos.lon, photos.lat, rules)
    assert {-1, 0, 1, 2} <= set(split.tolist())
    box = local.footprint(lon=photos.lon, lat=photos.lat, half=320.0)
    rng = np.random.default_rng(0)
    for _ in range(40):  # places on the tile and half the gap around it
        x, y = rng.uniform(-570, 570, (2, len(photos)))
        lon, lat = local.to_degrees(x=x, y=y, lon0=photos.lon, lat0=photos.lat)
        there = blocks.split_of(lon, lat, rules)
        assert np.all((there == split) | (split == -1))
    kept = split >= 0
    tile_of = np.arange(kept.sum())
    apart = {"split": split[kept], "box": box[kept], "tile_of": tile_of}
    blocks.assert_apart(**apart, photo=photos.key[kept])


def test_leaks_are_found():
    """One photo, or one overlapping tile, in two splits; also across the antimeridian."""
    box = np.array([[179.9, 0, 180.1, 0.2], [-179.95, 0.1, -179.8, 0.3], [10, 10, 10.2, 10.2]])
    tile_of, split = np.arange(3), np.array([0, 2, 0], np.int8)
    with pytest.raises(AssertionError, match="overlap"):
        blocks.assert_apart(split=split, box=box, tile_of=tile_of, photo=np.arange(3))
    far = box + np.array([0, 0, 0, 0]) + (np.arange(3) == 1)[:, None] * 20
    blocks.assert_apart(split=split, box=far, tile_of=tile_of, photo=np.arange(3))
    with pytest.raises(AssertionError, match="photos are in two splits"):
        blocks.assert_apart(split=split, box=far, tile_of=tile_of, photo=np.array([7, 7, 8]))


def test_overlaps_are_counted_as_by_hand():
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(170, 190, 300), rng.uniform(60, 80, 300)
    size = rng.uniform(0.05, 1.5, (300, 2))
    box = np.stack([lon, lat, lon + size[:, 0], lat + size[:, 1]], -1)
    box[:, [0, 2]] -= 360 * (lon > 180)[:, None]
    ours, theirs = box[:150], box[150:]
    by_hand = 0
    for a in ours:
        for turn in (-360, 0, 360):
            b = theirs + np.array([turn, 0, turn, 0])
            by_hand += np.sum(
                (a[0] < b[:, 2]) & (b[:, 0] < a[2]) & (a[1] < b[:, 3]) & (b[:, 1] < a[3])
            )
    assert blocks._overlaps(ours, theirs) == by_hand > 50
