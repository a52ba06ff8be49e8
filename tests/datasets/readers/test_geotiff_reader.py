"""Tiles cut from scenes, and S2-100K: places, bands and values of known sensors."""

import cv2
import numpy as np
import pytest
from reading import opened, reader, rows

from rsvl_jax.errors import UserError
from rsvl_jax.rasters.sensors import SENSORS, sentinel2_offset

rasterio = pytest.importorskip("rasterio")
pyproj = pytest.importorskip("pyproj")

NORTH, EAST = 4_200_000.0, 400_000.0  # metres, UTM 18 N


def scene(path, values, *, names=(), nodata=None, tags=(), crs="EPSG:32618", pixel=10.0):
    """Writes [bands, h, w] with its north-west corner at (EAST, NORTH)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    size = dict(zip(("count", "height", "width"), values.shape, strict=True))
    grid = rasterio.transform.from_origin(EAST, NORTH, pixel, pixel)
    how = {"crs": crs, "transform": grid, "dtype": values.dtype, "nodata": nodata}
    with rasterio.open(path, "w", driver="GTiff", **size, **how) as file:
        file.write(values)
        file.descriptions = names or (None,) * len(values)
        file.update_tags(**dict(tags))
    return path


def pixels(row):
    return cv2.imdecode(np.frombuffer(row.image, np.uint8), cv2.IMREAD_COLOR_RGB)


def numbered(height=70, width=100, bands=3, dtype=np.uint8):
    """Values that tell where they are: band, row, column."""
    _, y, x = np.indices((bands, height, width))
    return (np.arange(bands)[:, None, None] * 60 + (y + x) // 4).astype(dtype)


def cut(tmp_path, *flags, size=32):
    return opened(tmp_path / "index", "geotiff", tmp_path / "in", f"--size={size}", *flags)


def test_windows_cover_the_scene_and_know_their_places(tmp_path):
    values = numbered()
    scene(tmp_path / "in/b_20190703.tif", values)
    scene(tmp_path / "in/a.tif", values, tags={"TIFFTAG_DATETIME": "2021:05:06 10:00:00"}.items())
    found = rows(cut(tmp_path))
    assert len(found) == 2 * 3 * 4
    keys = [row.key for row in found[:12]]
    assert keys[0] == "a.tif/0_0" and keys[-1] == "a.tif/38_68"  # the last end with the scene
    last = found[11]
    np.testing.assert_array_equal(pixels(last), values[:, 38:, 68:].transpose(1, 2, 0))
    to_metres = pyproj.Transformer.from_crs(4326, 32618, always_xy=True)
    x, y = to_metres.transform(last.lon, last.lat)
    np.testing.assert_allclose((x, y), (EAST + 10 * (68 + 16), NORTH - 10 * (38 + 16)), atol=0.01)
    west, south, east, north = last.box
    assert west < last.lon < east and south < last.lat < north
    assert last.gsd == 10.0 and last.time == "2021-05-06" and found[12].time == "2019-07-03"


def test_tiles_of_nodata_and_scenes_that_cannot_serve_are_counted(tmp_path, capsys):
    values = numbered() + 1
    values[:, :, :40] = 0
    scene(tmp_path / "in/a.tif", values, nodata=0)
    scene(tmp_path / "in/small.tif", numbered(20, 20))
    scene(tmp_path / "in/no_crs.tif", numbered(), crs=None)
    (tmp_path / "in/page.tif").write_bytes(b"<html>404</html>")
    found = cut(tmp_path)
    assert rows(found).count("too few valid pixels") == 6
    assert sum(not isinstance(row, str) for row in rows(found)) == 6
    assert found.dropped() == {"scene cannot be used": 2, "scene is smaller than a tile": 1}
    told = capsys.readouterr().err
    assert "no_crs.tif' has no CRS" in told and "page.tif" in told


def test_a_grid_that_leads_across_the_date_line(tmp_path):
    path = tmp_path / "in/a.tif"
    path.parent.mkdir()
    grid = rasterio.transform.from_origin(179.9, 10.0, 0.005, 0.005)
    size = {"width": 64, "height": 64, "count": 3}
    how = {"driver": "GTiff", "dtype": "uint8", "crs": "EPSG:4326", "transform": grid}
    with rasterio.open(path, "w", **size, **how) as file:
        file.write(numbered(64, 64))
    (row,) = rows(cut(tmp_path, size=64))
    assert np.isclose(row.lon, -179.94) and row.box[0] > row.box[2]


def sentinel2(count, red, green, blue, added=0):
    values = np.full((count, 40, 40), 5000, np.uint16)
    values[3], values[2], values[1] = red + added, green + added, blue + added
    return values


@pytest.mark.parametrize("count", [12, 13])
def test_sentinel2_by_its_baseline(tmp_path, count):
    new = "in/S2B_MSIL2A_20220830T103629_N0400_R008_T33VUE.tif"
    old = "in/S2A_MSIL2A_20210830T103629_N0301_R008_T33VUE.tif"
    scene(tmp_path / new, sentinel2(count, 3000, 1500, 0, added=1000))
    scene(tmp_path / old, sentinel2(count, 3000, 1500, 0))
    first, second = rows(cut(tmp_path, "--sensor=sentinel2", size=40))
    for row in (first, second):
        assert pixels(row)[0, 0].tolist() == [255, 128, 0]
    assert (first.time, second.time) == ("2021-08-30", "2022-08-30")


def test_sentinel2_that_does_not_tell(tmp_path, capsys):
    scene(tmp_path / "in/a.tif", sentinel2(12, 3000, 1500, 0, added=1000))
    (row,) = rows(cut(tmp_path, "--sensor=sentinel2", size=40))
    assert pixels(row)[0, 0].tolist() == [255, 212, 85]
    assert "1 of 1 scenes do not tell their processing baseline" in capsys.readouterr().err
    found = opened(
        tmp_path / "i2",
        "geotiff",
        tmp_path / "in",
        "--size=40",
        "--sensor=sentinel2",
        "--s2_offset=1000",
    )
    assert pixels(rows(found)[0])[0, 0].tolist() == [255, 128, 0]


def test_offsets_of_names_and_tags():
    product = "S2B_MSIL1C_20220830T103629_N{}_R008_T33VUE_20220830T112540.SAFE"
    assert sentinel2_offset(product.format("0400"), {}) == 1000
    assert sentinel2_offset(product.format("0509"), {}) == 1000
    assert sentinel2_offset(product.format("0301"), {}) == 0
    assert sentinel2_offset("patch_1.tif", {"PROCESSING_BASELINE": "05.00"}) == 1000
    assert sentinel2_offset("patch_1.tif", {"PROCESSING_BASELINE": "02.14"}) == 0
    assert sentinel2_offset("patch_1.tif", {}) is None


def test_landsat_and_naip(tmp_path):
    values = np.full((7, 40, 40), 30000, np.uint16)
    values[3], values[2], values[1] = 18182, 12727, 7273  # reflectance .3, .15, 0, by USGS' formula
    scene(tmp_path / "in/LC08.tif", values)
    (row,) = rows(cut(tmp_path, "--sensor=landsat8", size=40))
    np.testing.assert_allclose(pixels(row)[0, 0], [255, 127.5, 0], atol=0.6)
    scene(tmp_path / "naip/m.tif", numbered(40, 40, bands=4))
    flags = ("--size=40", "--sensor=naip")
    (row,) = rows(opened(tmp_path / "i2", "geotiff", tmp_path / "naip", *flags))
    np.testing.assert_array_equal(pixels(row), numbered(40, 40).transpose(1, 2, 0))


def test_bands_by_name_number_and_none(tmp_path):
    sensor = SENSORS["sentinel2"]
    assert sensor.bands(13) == sensor.bands(12) == (4, 3, 2)
    assert sensor.bands(5, ("B08", "B02", "b03", "B04", "SCL")) == (4, 3, 2)
    assert sensor.bands(4) == (3, 2, 1)
    scene(tmp_path / "in/a.tif", numbered(40, 40, bands=5))
    found = opened(tmp_path / "i1", "geotiff", tmp_path / "in", "--sensor=sentinel2", "--size=40")
    assert found.dropped() == {"scene cannot be used": 1}
    flags = ("--bands=5,1,2", "--scale=0,255", "--size=40")
    (row,) = rows(opened(tmp_path / "i2", "geotiff", tmp_path / "in", *flags))
    np.testing.assert_array_equal(pixels(row), numbered(40, 40, 5)[[4, 0, 1]].transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (("--size=0",), "--size=0"),
        (("--min_valid=2",), "--min_valid=2.0 is no share"),
        (("--bands=r,g,b",), "--bands='r,g,b': give numbers"),
    ],
)
def test_flags_that_cannot_be(tmp_path, flags, match):
    scene(tmp_path / "in/a.tif", numbered())
    with pytest.raises(UserError, match=match):
        reader("geotiff", tmp_path / "in", *flags)


@pytest.fixture
def s2_100k(tmp_path):
    """Four patches in SatCLIP's layout: two whole, one too small, one missing."""
    root, rng = tmp_path / "S2-100K", np.random.default_rng(0)
    for number in range(2):
        noisy = rng.integers(0, 6000, (12, 40, 40)).astype(np.uint16)
        noisy[3], noisy[2], noisy[1] = 3000, 1500 * number, 0
        scene(root / f"images/patch_{number}.tif", noisy)
    (root / "images/patch_2.tif").write_bytes(b"II*\0")
    lines = ["fn,lon,lat", *(f"patch_{n}.tif,{10 * n},{-n}" for n in range(4)), "patch_0.tif,x,1"]
    (root / "index.csv").write_text("\n".join(lines))
    return root


def test_s2_100k(s2_100k, tmp_path):
    first, second, *dropped = rows(opened(tmp_path / "index", "s2_100k", s2_100k))
    assert (first.key, second.lon, second.lat, second.gsd) == ("patch_0.tif", 10.0, -1.0, 10.0)
    assert pixels(first)[3, 3].tolist() == [255, 0, 0]
    assert pixels(second)[3, 3].tolist() == [255, 128, 0]
    assert dropped == ["file is smaller than 10 kB", "image is missing", "lon is not a number"]
    shifted = rows(opened(tmp_path / "index2", "s2_100k", s2_100k, "--s2_offset=1000"))
    assert pixels(shifted[1])[3, 3].tolist() == [170, 42, 0]


def test_s2_100k_that_is_not_unpacked(s2_100k, tmp_path):
    (s2_100k / "index.csv").write_text("name,x,y\n")
    with pytest.raises(UserError, match="no column 'fn' or .*, but 'name', 'x', 'y'"):
        reader("s2_100k", s2_100k)
    (s2_100k / "images").rename(tmp_path / "gone")
    with pytest.raises(UserError, match="has no folder 'images': unpack its shards"):
        reader("s2_100k", s2_100k)
    with pytest.raises(UserError, match="has no index.csv"):
        reader("s2_100k", tmp_path)
