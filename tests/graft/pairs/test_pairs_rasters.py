"""Rasters of every kind: what they show, and what is said of those that cannot serve."""

import json
import os
import subprocess
import sys

import numpy as np
import pairs_world as world
import pytest
import range_server
import rasterio
import rasterio.warp
from rasterio.transform import from_origin

from graft_jax.pairs import coverage, cut, local, rasters
from graft_jax.pairs.counts import Counts
from graft_jax.pairs.settings import Settings
from rsvl_jax.errors import UserError

LON, LAT = 12.4, 41.9


def settings(path, **changes):
    base = {"photos": ("p",), "rasters": (str(path),), "gsd": 10.0, "size": 64, "block": 0.1}
    return Settings(**(base | changes))


def look(path, **changes):
    """The tile around the place in the first raster at `path`: pixels and valid."""
    rules = settings(path, **changes)
    with rasters.gdal():
        return cut.ground(LON, LAT, rasters.catalogue(rules, Counts())[0], rules)


def refused(path, reason, words, **changes):
    """The only raster at `path` is refused, in one line that names it."""
    counts = Counts()
    with pytest.raises(UserError, match=words) as caught:
        rasters.catalogue(settings(path, **changes), counts)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert counts.skipped("raster") == {reason: 1}


@pytest.fixture
def plain(tmp_path):
    return world.write_raster(tmp_path / "plain.tif", lon=LON, lat=LAT, pixels=300)


def reprojected(source, path, crs, gsd):
    with rasterio.open(source) as file:
        transform, width, height = rasterio.warp.calculate_default_transform(
            file.crs, crs, file.width, file.height, *file.bounds, resolution=gsd
        )
        profile = file.profile | {"crs": crs, "transform": transform, "width": width}
        with rasterio.open(path, "w", **profile | {"height": height, "nodata": 0}) as out:
            for band in (1, 2, 3):
                rasterio.warp.reproject(
                    rasterio.band(file, band),
                    rasterio.band(out, band),
                    resampling=rasterio.warp.Resampling.cubic,
                )
    return str(path)


@pytest.mark.parametrize(("crs", "gsd"), [("EPSG:4326", 3e-5), ("EPSG:3857", 4.0)])
def test_one_ground_in_other_crs(plain, tmp_path, crs, gsd):
    expected, _ = look(plain)
    got, valid = look(reprojected(plain, tmp_path / "other.tif", crs, gsd))
    assert valid.all()
    assert np.abs(got.astype(float) - expected).max() <= 4


def test_sixteen_bits_need_a_stretch(plain, tmp_path):
    path = world.write_raster(
        tmp_path / "deep.tif", lon=LON, lat=LAT, pixels=300, dtype="uint16", gain=10
    )
    refused(path, "not 8-bit and no --stretch", "uint16: say which are black and white")
    got, _ = look(path, stretch=(0.0, 2550.0))
    assert np.abs(got.astype(float) - look(plain)[0]).max() <= 1


def test_one_band_is_grey(tmp_path):
    path = world.write_raster(tmp_path / "grey.tif", lon=LON, lat=LAT, pixels=300, bands=1)
    got, _ = look(path)
    assert np.ptp(got, axis=-1).max() == 0 and np.ptp(got) > 50


def test_bands_by_number_and_by_mark(plain):
    expected, _ = look(plain)
    np.testing.assert_array_equal(look(plain, bands=(3, 2, 1))[0], expected[..., ::-1])
    refused(plain, "bands missing", "it has 3 bands, not 7", bands=(7, 1, 1))


def test_nodata_is_black_and_not_valid(plain, tmp_path):
    with rasterio.open(plain) as file:
        values, profile = file.read(), file.profile | {"nodata": 0}
    values[:, :, :150] = 0
    with rasterio.open(tmp_path / "half.tif", "w", **profile) as file:
        file.write(values)
    got, valid = look(tmp_path / "half.tif")
    assert valid.mean() == pytest.approx(0.5, abs=0.02)
    assert np.all(got[~valid] == 0) and np.all(valid[:, 40:]) and not np.any(valid[:, :24])


def test_what_cannot_serve(plain, tmp_path):
    with rasterio.open(plain) as file:
        values, profile = file.read(), file.profile
    with rasterio.open(tmp_path / "bare.tif", "w", **{**profile, "crs": None}) as file:
        file.write(values)
    refused(tmp_path / "bare.tif", "no CRS", "it has no CRS: assign one")
    refused(plain, "coarser than --gsd", "coarser than --gsd=1:", gsd=1.0)
    (tmp_path / "text.tif").write_text("no raster")
    refused(tmp_path / "text.tif", "cannot be opened", "not recognized")
    with rasterio.open(tmp_path / "p.tif", "w", **{**profile, "count": 1}) as file:
        file.write(values[:1])
        file.write_colormap(1, {0: (1, 2, 3)})
    refused(tmp_path / "p.tif", "a colour table", "expand it")
    for path in ("none.tif", "no*.tif"):
        with pytest.raises(UserError, match="no rasters at"):
            rasters.catalogue(settings(tmp_path / path), Counts())


def test_one_bad_raster_does_not_stop_the_others(plain, tmp_path):
    (tmp_path / "text.tif").write_text("no raster")
    counts = Counts()
    found = rasters.catalogue(settings(tmp_path), counts)
    assert len(found) == 1 and counts.skipped("raster") == {"cannot be opened": 1}
    assert len(counts.problems) == 1 and "text.tif" in counts.problems[0]


def test_a_vrt(plain, tmp_path):
    with rasterio.open(plain) as file:
        left, _, _, top = file.bounds
        size, wkt, gt = file.width, file.crs.to_wkt(), f"{left}, 10, 0, {top}, 0, -10"
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{b}"><SimpleSource><SourceFilename '
        f'relativeToVRT="1">plain.tif</SourceFilename><SourceBand>{b}</SourceBand>'
        f"</SimpleSource></VRTRasterBand>"
        for b in (1, 2, 3)
    )
    head = f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><SRS>{wkt}</SRS>'
    text = f"{head}<GeoTransform>{gt}</GeoTransform>{bands}</VRTDataset>"
    (tmp_path / "mosaic.vrt").write_text(text)
    np.testing.assert_array_equal(look(tmp_path / "mosaic.vrt")[0], look(plain)[0])


def item(name, assets, **properties):
    return {"type": "Feature", "id": name, "properties": properties, "assets": assets}


def test_stac(plain, tmp_path):
    """A visual asset, marked bands in three files, clouds, missing assets."""
    with rasterio.open(plain) as file:
        values, profile = file.read(), file.profile | {"count": 1}
    split = {}
    for number, colour in enumerate(("red", "green", "blue")):
        with rasterio.open(tmp_path / f"{colour}.tif", "w", **profile) as file:
            file.write(values[number : number + 1])
        marks = {"eo:bands": [{"common_name": colour}]}
        split[f"B{number}"] = {"href": f"./{colour}.tif"} | marks
    items = [
        item("a", {"visual": {"href": plain}}, datetime="2020-05-06T01:02:03Z", platform="s2a"),
        item("b", split, datetime="2021-05-06T01:02:03Z"),
        item("c", {"visual": {"href": plain}}, **{"eo:cloud_cover": 90}),
        item("d", {"B8": {"href": plain}}),
    ]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    rules, counts = settings(path, max_cloud=50.0), Counts()
    found = rasters.catalogue(rules, counts)
    assert [r.sensor for r in found] == ["s2a", ""]
    assert counts.skipped("raster") == {"too cloudy": 1, "no such assets": 1}
    expected, _ = look(plain)
    for raster in found:
        np.testing.assert_array_equal(cut.ground(LON, LAT, raster, rules)[0], expected)
    # the later date is nearer to the tile's; one beyond --max_days is not tried
    day = np.array([found[1].day - 3])
    here = (np.array([LON]), np.array([LAT]), day, rules.grid)
    assert coverage.candidates(found, *here, 0).tolist() == [[1, 0, -1, -1]]
    assert coverage.candidates(found, *here, 30).tolist() == [[1, -1, -1, -1]]
    for content, words in (("{", "not JSON"), ('{"type": "x"}', "no STAC item collection")):
        path.write_text(content)
        with pytest.raises(UserError, match=words):
            rasters.catalogue(settings(path), Counts())


def test_a_remote_asset_is_read_by_window(tmp_path, monkeypatch):
    """Over HTTP on this machine: the same pixels, and a small part of the file."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path = world.write_raster(
        tmp_path / "large.tif", lon=LON, lat=LAT, pixels=2048, tiled=True, blockxsize=256
    )
    command = [sys.executable, range_server.__file__, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            href = f"http://127.0.0.1:{server.stdout.readline().strip()}/large.tif"
            content = {"features": [item("a", {"visual": {"href": href}})]}
            (tmp_path / "items.json").write_text(json.dumps(content))
            got, _ = look(tmp_path / "items.json")
        finally:
            server.terminate()
        sent = sum(int(line) for line in server.stdout)
    np.testing.assert_array_equal(got, look(path)[0])
    assert 0 < sent < os.path.getsize(path) / 4


def test_dates_are_found(plain, tmp_path):
    def day(name, **tags):
        target = tmp_path / name
        os.link(plain, target) if not tags else None
        if tags:
            with rasterio.open(plain) as file:
                profile, values = file.profile, file.read()
            with rasterio.open(target, "w", **profile) as file:
                file.write(values)
                file.update_tags(**tags)
        (raster,) = rasters.catalogue(settings(target), Counts())
        return cut.columns.iso(raster.day)

    assert day("S2A_20200506T101031_x.tif") == "2020-05-06"
    assert day("m_3807_se_1_20190822.tif") == "2019-08-22"
    assert day("tile_123456789012.tif") == day("tile_20209999.tif") == ""
    assert day("20200506.tif", TIFFTAG_DATETIME="2018:01:02 03:04:05") == "2018-01-02"


def test_what_a_raster_holds_is_what_it_holds(tmp_path):
    """Rough margins and exact corners are as brute force, also across the antimeridian."""
    path = tmp_path / "wide.tif"
    profile = {"driver": "GTiff", "width": 400, "height": 300, "count": 1, "dtype": "uint8"}
    profile |= {"crs": "EPSG:4326", "transform": from_origin(179.98, -17, 1e-4, 1e-4)}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.ones((1, 300, 400), np.uint8))
    rules = settings(path)
    found = rasters.catalogue(rules, Counts())
    lon, lat = np.random.default_rng(0).uniform((179.97, -17.04), (180.03, -16.99), (4000, 2)).T
    wrapped = (lon + 180) % 360 - 180
    point, tile = coverage.reach(found, wrapped, lat, rules.grid)
    east, south = 179.98 + 0.04, -17 - 0.03
    np.testing.assert_array_equal(
        point, (lon >= 179.98) & (lon <= east) & (lat <= -17) & (lat >= south)
    )
    box = local.footprint(lon=lon, lat=lat, half=320.0)
    west_ok, south_ok = box[:, 0] >= 179.98, box[:, 1] >= south
    whole = west_ok & south_ok & (box[:, 2] <= east) & (box[:, 3] <= -17)
    np.testing.assert_array_equal(tile, whole)
    assert 0.1 < tile.mean() < point.mean()
    pixels, valid = cut.ground(180 - 360.0, -17.015, found[0], rules)
    assert valid.all() and (pixels == 1).all()
