"""SpaceNet 1: masks against point-in-polygon of every pixel, splits by list, what is broken."""

import re

import made_spacenet1 as made
import numpy as np
import pytest
from shapely.geometry import Point, shape

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets.__main__ import run
from rsvl_jax.evaluation_sets.opening import Options, open_collection

SIZE = (40, 44)
SQUARE = made.polygon([(3, 4), (17, 4), (17, 21), (3, 21)])


def opened(root, split="all", **options):
    return open_collection("spacenet1", str(root), split, Options(**options))


def refused(what, root, split="all", **options):
    with pytest.raises(UserError) as error:
        found = opened(root, split, **options)
        for row in range(len(found)):
            found.masks[row]
    text = str(error.value)
    assert re.search(what, text), text
    assert "\n" not in text


def inside(shapes):
    """bool [H,W]: whether the centre of a pixel lies in one of the shapes."""
    shapes = [shape(each) for each in shapes]
    centre = [
        [Point(*made.place(c + 0.5, r + 0.5)) for c in range(SIZE[1])] for r in range(SIZE[0])
    ]
    return np.array([[any(s.contains(p) for s in shapes) for p in line] for line in centre])


def test_masks_are_pixel_centres_in_polygons(tmp_path):
    rng = np.random.default_rng(0)
    hole = made.polygon(
        [(2.3, 2.2), (20.1, 3.3), (18.7, 22.4), (4.2, 19.9)], [(8, 8), (13, 8), (13, 14), (8, 14)]
    )
    two = [made.polygon([(30, y), (37.4, y + 1), (33, y + 6.2)]) for y in (1, 12)]
    many = {"type": "MultiPolygon", "coordinates": [each["coordinates"] for each in two]}
    across = made.polygon([(-7, 30), (9.1, 28), (12, 50.5), (-3, 47)])
    outside = made.polygon([(60, 60), (70, 60), (70, 70)])
    blob = made.polygon([*zip(rng.uniform(15, 44, 7), rng.uniform(22, 40, 7), strict=True)])
    convex = shape(blob).convex_hull.__geo_interface__
    shapes = [hole, many, across, outside, convex]
    made.pair(tmp_path, 1, shapes)
    found = opened(tmp_path).masks[0]
    assert found.shape == SIZE and found.dtype == np.uint8
    np.testing.assert_array_equal(found, inside(shapes).astype(np.uint8))
    assert 0.1 < found.mean() < 0.9


def test_tiles_are_in_the_order_of_their_numbers_and_empty_files_hold_no_building(tmp_path):
    train = tmp_path / "SN1_buildings" / "train"
    for number in (10, 9, 2):
        made.pair(train, number, [])
    (train / "geojson" / "Geo_AOI_1_RIO_img2.geojson").write_text("")
    found = opened(tmp_path)
    assert found.ids == tuple(f"3band_AOI_1_RIO_img{number}.tif" for number in (2, 9, 10))
    assert found.pixel_classes == ("background", "building")
    assert not any(found.masks[row].any() for row in range(3))
    assert found.images[0].shape == (*SIZE, 3) and found.images[0].dtype == np.uint8


def test_black_pixels_are_ignored_and_one_black_band_is_not(tmp_path):
    path = made.pair(tmp_path, 1, [SQUARE])
    pixels = np.full((*SIZE, 3), 90, np.uint8)
    pixels[:, 10:] = 0
    pixels[:, 30:, 1] = 5
    made.tile(path, pixels)
    mask = opened(tmp_path).masks[0]
    assert (mask[:, 10:30] == 255).all() and not (mask[:, 30:] == 255).any()
    assert mask[5, 5] == 1 and mask[30, 5] == 0


def test_outlines_and_tiles_in_other_projections(tmp_path):
    from rasterio.transform import from_origin
    from rasterio.warp import transform_geom

    path = made.pair(tmp_path, 1, [SQUARE])
    plain = opened(tmp_path).masks[0]
    drawn = tmp_path / "geojson" / "Geo_AOI_1_RIO_img1.geojson"
    named = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    made.outlines(drawn, [SQUARE], crs=named)
    np.testing.assert_array_equal(opened(tmp_path).masks[0], plain)
    west, north = (
        transform_geom("EPSG:4326", "EPSG:32723", {"type": "Point", "coordinates": made.CORNER})
    )["coordinates"][:2]
    pixels = np.full((*SIZE, 3), 9, np.uint8)
    made.tile(path, pixels, "EPSG:32723", from_origin(west, north, 0.46, 0.5))
    metres = opened(tmp_path).masks[0]  # 4.5e-6 degrees there are 0.46 m and 0.5 m
    assert (metres != plain).mean() < 0.05 and metres.sum() == pytest.approx(plain.sum(), rel=0.1)


def test_splits_come_from_lists_and_never_from_chance(tmp_path, capsys):
    for number in range(1, 7):
        made.pair(tmp_path, number, [SQUARE, None, {"type": "Polygon", "coordinates": []}])
    what = "no list of the test split of SpaceNet 1.*spacenet1-test.txt.*SpaceNet1DataModule"
    refused(what, tmp_path, "test")
    refused("no 'spacenet1-val.txt'.*get it from torchgeo", tmp_path, "val", rule="torchgeo")
    refused("split rule 'remoteclip': spacenet1 has all, torchgeo", tmp_path, rule="remoteclip")
    listed = ["data/SN1_buildings/train/3band/3band_AOI_1_RIO_img5.tif", "3band_AOI_1_RIO_img2.tif"]
    (tmp_path / "spacenet1-test.txt").write_text("\n".join(listed))
    found = opened(tmp_path, "test")
    assert [name.split("img")[1] for name in found.ids] == ["5.tif", "2.tif"]
    assert found.protocol["split_rule"] == "torchgeo" and "md5" in found.protocol["split_list"]
    run(["check", "spacenet1", f"--data={tmp_path}"])
    text = capsys.readouterr().out
    assert "2 images" in text and "  building: 476 pixels" in text
    assert "outlines: 6, of which enclose nothing: 4" in text
    run(["list"])
    assert re.search(r"spacenet1 +spacenet1 +2 +6940  all, torchgeo", capsys.readouterr().out)


def test_folders_that_are_wrong(tmp_path):
    refused("no folders 3band and geojson: give the published training", tmp_path)
    (tmp_path / "8band").mkdir()
    refused("has the 8-band tiles alone: the RGB ones", tmp_path)
    path = made.pair(tmp_path, 1, [SQUARE])
    drawn = tmp_path / "geojson" / "Geo_AOI_1_RIO_img1.geojson"
    made.tile(path.with_name("3band_AOI_1_RIO_img7.tif"), np.ones((4, 4, 3), np.uint8))
    refused("img7.tif' has no outlines in .* .1 such", tmp_path)
    made.outlines(drawn.with_name("Geo_AOI_1_RIO_img7.geojson"), [])
    made.outlines(drawn.with_name("Geo_AOI_1_RIO_img8.geojson"), [])
    refused("img8.geojson' has no tile in .* .1 such", tmp_path)
    made.tile(path.with_name("8band_AOI_1_RIO_img7.tif"), np.ones((4, 4, 3), np.uint8))
    refused("two files of one tile: '3band_AOI_1_RIO_img7.tif', '8band", tmp_path)
    for each in (tmp_path / "geojson").iterdir():
        each.unlink()
    refused("has 3band, but no outlines", tmp_path)


def test_files_that_are_wrong(tmp_path):
    path = made.pair(tmp_path, 1, [SQUARE])
    drawn = tmp_path / "geojson" / "Geo_AOI_1_RIO_img1.geojson"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused("img1.tif' cannot be decoded", tmp_path)
    made.tile(path, np.ones((110, 102, 8), np.uint16))
    refused("has 8 bands of uint16: the RGB tiles", tmp_path)
    made.tile(path, np.ones((8, 8, 3), np.uint8), crs=None)
    refused("img1.tif' is not georeferenced", tmp_path)
    path.write_bytes(whole)
    for text, what in (
        ('{"features": [', "is no GeoJSON that can be read"),
        ("[1, 2]", "is no GeoJSON with 'features'"),
        ('{"type": "FeatureCollection"}', "is no GeoJSON with 'features'"),
        ('{"features": [7]}', "has a 7: outlines are"),
        ('{"features": [{"geometry": {"type": "Point", "coordinates": [1, 2]}}]}', "a 'Point'"),
        ('{"features": [], "crs": {"properties": {"name": "moon"}}}', "the unknown CRS 'moon'"),
    ):
        drawn.write_text(text)
        refused(what, tmp_path)
