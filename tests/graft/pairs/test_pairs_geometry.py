"""Pixels, grounds and pictures against an independent projection library."""

import io

import numpy as np
import pairs_world as world
import pyproj
import pytest
from PIL import Image

from graft_jax.pairs import local
from rsvl_jax.datasets import ground_satellite_pairs

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def records(collection):
    data_dir, _, summary = collection
    present = [s for s in SPLITS if summary["tiles"]["written"][s]]
    return [r for s in present for r in ground_satellite_pairs.load("small", data_dir, s)]


@pytest.mark.parametrize(
    ("half", "lat0"),
    [(h, lat) for h in (112.0, 1120.0, 200e3) for lat in (-75.0, -33.4, 0.0, 48.0)]
    + [(1120.0, -87.9), (1120.0, 86.0)],
)
@pytest.mark.parametrize("lon0", [-179.9995, 12.3, 179.9])
def test_local_grid_is_pyprojs(half, lat0, lon0):
    x, y = np.random.default_rng(0).uniform(-half, half, (2, 200))
    centre = {"lon0": np.full(200, lon0), "lat0": np.full(200, lat0)}
    there = pyproj.Transformer.from_crs(local.crs(lon=lon0, lat=lat0), 4326, always_xy=True)
    lon, lat = there.transform(x, y)
    np.testing.assert_allclose(local.to_metres(lon=lon, lat=lat, **centre), (x, y), atol=1e-6)
    back_lon, back_lat = local.to_degrees(x=x, y=y, **centre)
    np.testing.assert_allclose((back_lon - lon + 180) % 360 - 180, 0, atol=1e-10)
    np.testing.assert_allclose(back_lat, lat, atol=1e-10)


def test_photos_are_at_their_pixels(records):
    """From each tile's own geotransform and CRS, at latitudes 69.6, 0.3, -17 and -33.4."""
    seen = set()
    for record in records:
        crs = pyproj.CRS.from_proj4(
            f"+proj=tmerc +lon_0={record['lon']!r} +lat_0={record['lat']!r} +datum=WGS84"
        )
        to_grid = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
        x, y = to_grid.transform(record["photo_lon"], record["photo_lat"])
        expected = np.stack([32 + x / 10, 32 - y / 10], -1)
        np.testing.assert_allclose(record["photo_xy"], expected, atol=1e-3)
        assert np.all(record["photo_xy"] >= 0) and np.all(record["photo_xy"] < 64)
        seen.add(round(record["lat"]))
    assert len(seen) >= 4


def test_offsets_agree_with_geodesics(records):
    """Azimuth and distance on the ellipsoid, which share no formula with the projection."""
    geod = pyproj.Geod(ellps="WGS84")
    for record in records:
        centre = np.full_like(record["photo_lon"], record["lon"])
        azimuth, _, metres = geod.inv(
            centre, np.full_like(centre, record["lat"]), record["photo_lon"], record["photo_lat"]
        )
        east, north = np.sin(np.radians(azimuth)) * metres, np.cos(np.radians(azimuth)) * metres
        expected = np.stack([32 + east / 10, 32 - north / 10], -1)
        np.testing.assert_allclose(record["photo_xy"], expected, atol=0.01)


def test_a_tile_is_as_wide_as_it_says(records):
    geod = pyproj.Geod(ellps="WGS84")
    for record in records:
        west, south, east, north = record["footprint"].astype(float)
        assert -180 <= west < 180 and west < east
        middle = (south + north) / 2
        height = geod.inv(record["lon"], south, record["lon"], north)[2]
        width = geod.inv(west, middle, east, middle)[2]
        assert height == pytest.approx(640, rel=0.01)
        assert 640 * 0.99 <= width <= 640 * 1.02  # the box is a little wider than the square


def test_pixels_show_the_ground_under_them(records):
    """The raster's own coordinates of every pixel's place give the colour that stands there."""
    for record in records[::5]:
        image = np.asarray(Image.open(io.BytesIO(record["image"]))).astype(float)
        column, row = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
        crs = local.crs(lon=record["lon"], lat=record["lat"])
        zone = world.utm(world.zone_lon(record["lon"]), record["lat"])
        to_raster = pyproj.Transformer.from_crs(crs, zone, always_xy=True)
        place = to_raster.transform((column - 32) * 10, (32 - row) * 10)
        expected = np.moveaxis(world.colour(*place), 0, -1)
        assert np.abs(image - expected).max() < 3.5  # rounding twice and bilinear curvature


def test_one_photo_is_at_each_centre(records):
    for record in records:
        np.testing.assert_array_equal(record["photo_xy"][0], (32, 32))


def test_dates_and_formats(records):
    for record in records:
        assert record["date"] == "2019-06-01"
        assert set(record["photo_dates"]) == {"2019-05-04"}
        assert record["embeddings"].shape == (0, 0) and record["photos"] == []
        assert record["gsd"] == 10
