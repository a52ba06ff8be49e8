"""Maps: things lie where they should."""

import numpy as np

from rsvl_jax import report
from rsvl_jax.report import maps


def cell(lon, lat):
    height, width = maps.SHAPE
    return int((90 - lat) / 180 * height), int((lon + 180) / 360 * width)


def changed(shown):
    empty = report.TileMap(np.array([]), np.array([]), [])
    return (maps.draw_tiles(shown) != maps.draw_tiles(empty)).any(axis=-1)


def test_a_tile_tints_the_ground_that_it_covers_and_no_other():
    different = changed(report.TileMap(np.array([20.0]), np.array([-30.0]), ["train"], 10.0))
    rows, columns = np.nonzero(different)
    top, left = cell(15, -25)
    bottom, right = cell(25, -35)
    for found, wanted in zip(
        (rows.min(), rows.max(), columns.min(), columns.max()),
        (top, bottom, left, right),
        strict=True,
    ):
        assert abs(found - wanted) <= 2


def test_splits_have_colours_of_different_brightness():
    """So that they stay apart without hue: on paper, and for colour-blind readers."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    light = sorted(float(np.dot(c, weights)) for c in maps._COLOURS.values())
    assert np.diff(light).min() > 20


def test_the_coast_lies_between_land_and_sea():
    coast = maps._coast() > 0
    for lon, lat in ((-150, -30), (90, -40), (10, 25), (-60, -10), (135, -25)):
        row, column = cell(lon, lat)
        assert not coast[row - 3 : row + 4, column - 3 : column + 4].any()
    row, column = cell(8.5, 44.3)  # Genoa
    assert coast[row - 4 : row + 5, column - 4 : column + 5].any()


def test_heat_map_is_dark_where_similarity_is_low_and_bright_where_it_is_high():
    grid = np.tile(np.linspace(-1, 1, 360), (180, 1))
    heat = maps.draw_similarity(grid, -1.0, 1.0).astype(float).sum(axis=-1)
    columns = np.median(heat, axis=0)
    assert np.all(np.diff(columns[::64]) > 0)
