"""No pixel of one split is in a tile of another; the splits are frozen and cover every class."""

import numpy as np
import pytest

from rsvl_jax.datasets.earth_tiles import rasters, splits, tiles
from rsvl_jax.datasets.earth_tiles.classes import CLASSES

GAP = 2 * splits.MARGIN


@pytest.fixture(scope="module")
def plan(world):
    return tiles.full(world)


def painted(rows, cols):
    """Which pixels of the mosaic tiles cover, bool; written without the code under test."""
    canvas = np.zeros((2700, 5400), bool)
    for row, col in zip(rows, cols, strict=True):
        for x in range(col, col + 64):
            canvas[row : row + 64, x % 5400] = True
    return canvas


def closest(a, b):
    """Smallest distance between tiles of two plans, pixels from top left to top left, per axis."""
    down = np.abs(a.row[:, None] - b.row[None])
    across = np.abs(a.col[:, None] - b.col[None])
    return np.maximum(down, np.minimum(across, rasters.WIDTH - across)).min()


def test_no_pixel_of_the_full_plan_is_shared(plan):
    covers = [painted(plan.row[plan.split == s], plan.col[plan.split == s]) for s in range(3)]
    assert all(cover.any() for cover in covers)
    assert not (covers[0] & covers[1]).any()
    assert not (covers[0] & covers[2]).any()
    assert not (covers[1] & covers[2]).any()


def test_splits_are_a_gap_apart_across_the_antimeridian_too(plan):
    parts = [plan.take(plan.split == s) for s in range(3)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert closest(parts[first], parts[second]) >= tiles.SIZE + GAP
    assert (plan.col + tiles.SIZE > rasters.WIDTH).any()  # some tiles do cross it


def test_no_pixel_of_the_small_build_is_shared(records):
    covers = [
        painted([r["row"] for r in part], [r["col"] for r in part]) for part in records.values()
    ]
    assert sum(cover.astype(int) for cover in covers).max() == 1


def test_a_tile_in_the_gap_has_no_split():
    block = splits.TEST_BLOCKS[0]
    assert block + 1 not in (*splits.TEST_BLOCKS, *splits.VALIDATION_BLOCKS)
    top, edge = block // splits.COLS * splits.BLOCK + 20, (block % splits.COLS + 1) * splits.BLOCK
    cols = np.array([edge - 72, edge - 71, edge - 10, edge + 7, edge + 8])
    found = splits.split_of(np.full(5, top), cols, 64)
    assert found.tolist() == [2, -1, -1, -1, 0]


def test_blocks_wrap_at_the_antimeridian():
    rows, cols = np.array([700, 700]), np.array([rasters.WIDTH - 10, 22])
    first = 2 * splits.COLS
    assert splits.block_of(rows, cols, 64).tolist() == [first, first]


def test_the_frozen_plan(plan):
    assert np.bincount(plan.split).tolist() == [5851, 621, 1281]
    assert len(np.unique(plan.block[plan.split == 2])) >= 15
    assert not set(splits.VALIDATION_BLOCKS) & set(splits.TEST_BLOCKS)


@pytest.mark.parametrize(("split", "least"), [(0, 200), (1, 20), (2, 45)])
def test_every_class_is_in_every_split(plan, split, least):
    counts = np.bincount(plan.label[plan.split == split] + 1, minlength=len(CLASSES) + 1)
    assert counts[1:].min() >= least


def test_tiles_avoid_antarctica_and_the_far_north(plan):
    edges = np.array([tiles.bounds(r, c) for r, c in zip(plan.row, plan.col, strict=True)])
    assert edges[:, 1].min() >= -60
    assert edges[:, 3].max() <= 76.2


def test_featureless_and_landless_tiles_are_left_out(plan, world):
    for row, col in zip(plan.row[::97], plan.col[::97], strict=True):
        image = rasters.window(world.image, row, col, 64).astype(float).mean(-1)
        assert image.std() >= 4.99
        assert (rasters.window(world.landcover, row, col, 64) > 0).mean() >= 0.15
