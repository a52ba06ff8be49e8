"""Footprints beside projections and geometries of independent libraries."""

import math

import numpy as np
import pyproj
import pytest
from affine import Affine
from rasterio.crs import CRS

from rsvl_jax.rasters import footprints
from rsvl_jax.rasters.footprints import Ground

POLAR = "EPSG:3995"  # Arctic stereographic


def ground(code, left, top, step):
    return Ground(CRS.from_user_input(code), Affine(step, 0, left, 0, -step, top))


def corners_by_hand(code, points):
    """Longitude and latitude of points in metres, one call of the projection each."""
    projection = pyproj.Proj(code)
    return [projection(x, y, inverse=True) for x, y in points]


@pytest.mark.parametrize(
    ("code", "left", "top"),
    [("EPSG:32618", 435730, 4179460), ("EPSG:32733", 300000, 6300000), ("EPSG:32735", 5e5, 9.9e6)],
)
def test_corners_are_where_the_projection_says(code, left, top):
    row, column, size, step = 40, 70, 32, 10
    ring = ground(code, left, top, step).ring(row, column, size)
    x0, x1 = left + column * step, left + (column + size) * step
    y0, y1 = top - row * step, top - (row + size) * step
    wanted = corners_by_hand(code, [(x0, y0), (x0, y1), (x1, y1), (x1, y0)])
    np.testing.assert_allclose(ring[::4], wanted, atol=1e-9)
    middle = corners_by_hand(code, [((x0 + x1) / 2, (y0 + y1) / 2)])[0]
    found = ground(code, left, top, step).point(row + size / 2, column + size / 2)
    np.testing.assert_allclose(found, middle, atol=1e-9)


def test_polygons_are_whole_and_counter_clockwise():
    shapely = pytest.importorskip("shapely")
    for code, left, top, step in [
        ("EPSG:32618", 435730, 4179460, 10),
        ("EPSG:4326", 20.0, 60.0, 0.01),
        ("EPSG:3031", -1e6, 8e5, 1000),  # the Antarctic
    ]:
        ring = ground(code, left, top, step).ring(3, 5, 64)
        shape = shapely.from_wkb(footprints.well_known_binary(ring))
        assert shape.is_valid and shape.exterior.is_ccw
        np.testing.assert_allclose(shape.bounds, footprints.box(ring))
        side = 64 * step * (111_195 if code == "EPSG:4326" else 1)
        area = abs(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(shape)[0])
        narrow = math.cos(math.radians(59.6)) if code == "EPSG:4326" else 1
        assert area == pytest.approx(side**2 * narrow, rel=0.07)


@pytest.mark.parametrize(
    ("code", "left", "top", "step"),
    [
        ("EPSG:32660", 830000, 100000, 1000),  # goes beyond 180
        ("EPSG:4326", 179.9, 10.0, 0.01),
        ("EPSG:4326", -180.22, 10.0, 0.01),
    ],
)
def test_the_antimeridian_splits_a_footprint(code, left, top, step):
    shapely = pytest.importorskip("shapely")
    ring = ground(code, left, top, step).ring(0, 0, 32)
    assert -180 <= ring[:, 0].min() < 180 < ring[:, 0].max() < 183
    west, south, east, north = footprints.box(ring)
    assert 177 < west < 180 and -180 < east < -177 and south < north
    shape = shapely.from_wkb(footprints.well_known_binary(ring))
    assert shape.geom_type == "MultiPolygon" and shape.is_valid and len(shape.geoms) == 2
    assert shape.area == pytest.approx(shapely.Polygon(ring).area)
    first, second = shape.geoms
    assert first.bounds[2] == 180 and second.bounds[0] == -180
    back = footprints.rings(footprints.well_known_binary(ring))
    wanted = [np.array(part.exterior.coords) for part in shape.geoms]
    for found, other in zip(back, wanted, strict=True):
        np.testing.assert_array_equal(found, other)


def test_edges_at_the_antimeridian_do_not_cross_it():
    for left in (-180.0, 180.0):  # the east of it, whichever way the grid counts
        ring = ground("EPSG:4326", left, 10.0, 0.5).ring(0, 0, 16)
        assert footprints.box(ring) == (-180.0, 2.0, -172.0, 10.0)
    ring = ground("EPSG:4326", 172.0, 10.0, 0.5).ring(0, 0, 16)
    assert footprints.box(ring) == (172.0, 2.0, 180.0, 10.0)
    assert len(footprints.rings(footprints.well_known_binary(ring))) == 1


def test_tiles_wider_than_half_the_earth():
    grid = ground("EPSG:4326", -180.0, 90.0, 1.0)
    assert footprints.box(grid.ring(0, 0, 180)) == (-180.0, -90.0, 0.0, 90.0)
    assert footprints.box(grid.ring(0, 20, 170)) == (-160.0, -80.0, 10.0, 90.0)
    wide = ground("EPSG:4326", -120.0, 60.0, 2.0).ring(0, 0, 60)  # 120 degrees high and wide
    assert footprints.box(wide) == (-120.0, -60.0, 0.0, 60.0)


def test_a_tile_with_the_pole_is_a_cap():
    ring = ground(POLAR, -160_000, 160_000, 10_000).ring(0, 0, 32)
    west, south, east, north = footprints.box(ring)
    assert (west, east, north) == (-180, 180, 90)
    farthest = corners_by_hand(POLAR, [(160_000, 160_000)])[0][1]
    assert south == pytest.approx(farthest, abs=1e-6)


def test_beyond_the_earth_there_is_no_footprint():
    grid = ground("+proj=ortho +lat_0=0 +lon_0=0", -9e6, 9e6, 10_000)
    assert not np.isfinite(grid.ring(0, 0, 32)).all()
    assert np.isfinite(grid.ring(900, 900, 32)).all()
