"""Density maps beside plain loops over tiles and cells."""

import numpy as np
import pytest
from search_world import places

from graft_jax.search import density
from graft_jax.search.density import Grid
from graft_jax.search.outlines import outlines
from graft_jax.search.picture import degrees
from rsvl_jax.errors import UserError


def by_hand(values, boxes, cells):
    """Mean over tiles by the area they share with each cell, degree by degree."""
    total = np.zeros((cells.rows, cells.columns, values.shape[1]))
    weight = np.zeros((cells.rows, cells.columns))
    for value, (west, south, east, north) in zip(values, boxes, strict=True):
        width = (east - west) % 360
        for row in range(cells.rows):
            top = cells.north - row * cells.cell
            high = max(0.0, min(north, top) - max(south, top - cells.cell))
            for column in range(cells.columns):
                left = cells.west + column * cells.cell
                wide = 0.0
                for turn in (-720, -360, 0, 360, 720):
                    ends = min(west + turn + width, left + cells.cell), max(west + turn, left)
                    wide += max(0.0, ends[0] - ends[1])
                share = high * wide / cells.cell**2
                total[row, column] += share * value
                weight[row, column] += share
    with np.errstate(invalid="ignore"):
        return np.moveaxis(total / weight[..., None], -1, 0), weight


@pytest.mark.parametrize(
    "cells",
    [
        Grid(-20.0, 30.0, 2.5, 16, 20),
        Grid(160.0, 30.0, 3.0, 12, 18),  # across the antimeridian
        Grid(-180.0, 90.0, 15.0, 12, 24),
    ],
)
def test_cells_are_means_by_area(cells):
    rng = np.random.default_rng(0)
    middle = cells.west + cells.columns * cells.cell / 2
    west = (middle + rng.normal(0, 12, 60) + 180) % 360 - 180
    south = rng.uniform(-20, 30, 60)
    east = (west + rng.uniform(0.1, 9, 60) + 180) % 360 - 180
    boxes = np.stack([west, south, east, south + rng.uniform(0.1, 9, 60)], axis=1)
    values = rng.normal(size=(60, 2))
    found, weight = density.means(values, places(boxes), cells)
    wanted, counted = by_hand(values, boxes, cells)
    np.testing.assert_allclose(weight, counted, atol=1e-6)
    known = counted > 1e-8
    assert known.any() and not known.all()
    assert np.isnan(found[:, ~known]).all()
    np.testing.assert_allclose(found[:, known], wanted[:, known], atol=1e-5)


def test_a_tile_around_the_whole_earth_counts_once():
    cells = Grid(-180.0, 90.0, 30.0, 6, 12)
    _, weight = density.means(np.ones((1, 1)), places([(-180, 60, 180, 90)]), cells)
    np.testing.assert_allclose(weight[0], 1)
    assert weight[1:].sum() == 0


def test_the_grid_holds_all_tiles_and_lies_on_multiples():
    where = places([(11.3, 4.1, 12.4, 5.2), (14.2, 3.3, 15.6, 4.4)])
    found = density.grid(where, 0.5)
    assert found == Grid(11.0, 5.5, 0.5, 5, 10)
    assert density.grid(where).cell == 0.5  # half of 1.1 degrees, rounded
    inside = density.grid(where, 0.5, (12.0, 3.0, 13.0, 4.0))
    assert inside == Grid(12.0, 4.0, 0.5, 2, 2)
    across = density.grid(where, 1.0, (175.0, 0.0, -170.0, 10.0))
    assert across.box == (175, 0, 190, 10)
    with pytest.raises(UserError, match="--cell=1e-05"):
        density.grid(where, 1e-5)


def test_the_region_is_cut_at_the_widest_gap():
    assert density.region(places([(10, 0, 12, 1), (30, 2, 33, 5)])) == (10, 0, 33, 5)
    assert density.region(places([(170, 0, -170, 1), (-175, 2, -172, 5)])) == (170, 0, 190, 5)
    assert density.region(places([(170, 0, 175, 1), (-175, 2, -172, 5)])) == (170, 0, 188, 5)
    every = places([(west, 0, west + 10, 5) for west in range(-180, 180, 20)])
    assert density.region(every) == (-180, 0, 180, 5)


@pytest.mark.parametrize(("value", "wanted"), [(0.55, 0.5), (4.3, 5), (0.0022, 0.002), (90, 100)])
def test_round_numbers(value, wanted):
    assert density.round_number(value) == pytest.approx(wanted)


def test_outlines_reach_into_the_region_only():
    iberia = outlines((-10.0, 35.0, 5.0, 45.0))
    assert 3 < len(iberia) < 200 and sum(map(len, iberia)) < 20_000
    for line in iberia:
        inside = (line[:, 0] > -25) & (line[:, 0] < 20) & (line[:, 1] > 20) & (line[:, 1] < 60)
        assert inside.any()
    fiji = outlines((176.0, -19.0, 182.0, -15.0))
    points = np.concatenate(fiji)
    assert ((points[:, 0] > 180) & (points[:, 0] < 182)).any()
    assert not outlines((-140.0, -5.0, -139.5, -4.5))  # the open Pacific


def test_degrees_for_people():
    assert [degrees(v, "EW") for v in (12.5, -3, 0, 190, 180)] == [
        "12.5° E",
        "3° W",
        "0°",
        "170° W",
        "180°",
    ]
    assert degrees(-33.25, "NS") == "33.25° S"
