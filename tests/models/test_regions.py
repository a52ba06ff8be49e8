"""Shares of patches in boxes, by counting pixels."""

import numpy as np
import pytest

from rsvl_jax.models.regions import pool, shares

GRID, PATCH = (2, 3), 4


def counted(box):
    """Share of each patch of a box with whole corners."""
    rows, columns = np.mgrid[: GRID[0] * PATCH, : GRID[1] * PATCH]
    left, top, right, bottom = box
    inside = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    tiles = inside.reshape(GRID[0], PATCH, GRID[1], PATCH).sum((1, 3)).reshape(-1)
    return tiles / max(tiles.sum(), 1)


@pytest.mark.parametrize(
    "box",
    [(0, 0, 12, 8), (0, 0, 4, 4), (3, 3, 5, 5), (1, 0, 11, 1), (8, 4, 12, 8), (5, 5, 5, 8)],
)
def test_shares_are_those_of_the_pixels(box):
    found = shares(np.array(box, np.float32), grid=GRID, patch_size=PATCH)
    np.testing.assert_allclose(found, counted(box), atol=1e-6)


def test_parts_of_pixels_count_in_part():
    box = np.array([3.5, 0, 4.25, 4], np.float32)  # half a pixel here, a quarter there
    found = shares(box, grid=GRID, patch_size=PATCH)
    np.testing.assert_allclose(found, [2 / 3, 1 / 3, 0, 0, 0, 0], atol=1e-6)


def test_pooled_values_are_weighted_means():
    rng = np.random.default_rng(0)
    patches = rng.standard_normal((2, 6, 5)).astype(np.float32)
    boxes = np.array([[[0, 0, 12, 8], [3, 3, 5, 5]], [[1, 0, 11, 1], [8, 4, 12, 8]]], np.float32)
    found = pool(patches, boxes, grid=GRID, patch_size=PATCH)
    for image in range(2):
        for region in range(2):
            wanted = counted(boxes[image, region]) @ patches[image]
            np.testing.assert_allclose(found[image, region], wanted, rtol=1e-5, atol=1e-6)
