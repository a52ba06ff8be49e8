"""Zoom pairs: views lie where they should, splits share no pixel, words and labels are true."""

import re

import numpy as np
import pytest

from rsvl_jax import datasets
from rsvl_jax.data.transforms import decode
from rsvl_jax.datasets import check_records
from rsvl_jax.datasets.check import check
from rsvl_jax.datasets.earth_tiles import classes, rasters
from rsvl_jax.datasets.earth_tiles.captions import captions
from rsvl_jax.datasets.earth_tiles.classes import CLASSES, Kind
from rsvl_jax.datasets.earth_tiles.places import load as load_places
from rsvl_jax.datasets.earth_tiles.rasters import window
from rsvl_jax.datasets.earth_tiles.scene import look
from rsvl_jax.datasets.earth_tiles.splits import MARGIN
from rsvl_jax.datasets.fingerprint import decode_mask
from rsvl_jax.datasets.zoom_pairs import plan
from rsvl_jax.datasets.zoom_pairs.builder import Cutter
from rsvl_jax.errors import UserError

MINI = "zoom_pairs/mini"
EARTH_TILES_MINI = "ca855891138329edf01455a49cd1f6f47e11307fc5d9b59d67b0a8123bfcc35c"


@pytest.fixture(scope="module")
def pairs(mini_zoom_pairs):
    """A directory with a fresh build, and its records by split."""
    splits = datasets.manifest(MINI, mini_zoom_pairs)["splits"]
    records = {split: list(datasets.load(MINI, mini_zoom_pairs, split)) for split in splits}
    return mini_zoom_pairs, records


def views(record):
    """(index, row, col of the top left corner in the mosaic) of each view, from its position."""
    lon, lat = record["photo_lon"], record["photo_lat"]
    rows = np.round((90 - lat) * 15).astype(int) - 16
    cols = (np.round((lon + 180) * 15).astype(int) - 16) % 5400
    return list(zip(range(len(rows)), rows.tolist(), cols.tolist(), strict=True))


def painted(records):
    canvas = np.zeros((2700, 5400), bool)
    for record in records:
        row, col = record["row"], record["col"]
        canvas[row : row + 128, (col + np.arange(128)) % 5400] = True
        for _, row, col in views(record):
            canvas[row : row + 32, (col + np.arange(32)) % 5400] = True
    return canvas


def test_sizes_as_a_parameter_leave_earth_tiles_as_they_are(data_dir):
    assert datasets.manifest("earth_tiles/mini", data_dir)["fingerprint"] == EARTH_TILES_MINI


def test_no_pixel_is_shared_between_splits(pairs):
    covers = [painted(records) for records in pairs[1].values()]
    assert [cover.any() for cover in covers] == [True] * 3
    assert sum(cover.astype(int) for cover in covers).max() == 1


def test_no_pixel_of_the_full_plan_is_shared_between_splits(world):
    full = plan.full(world)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        a, b = (full.take(full.split == split) for split in (first, second))
        down = np.abs(a.row[:, None] - b.row)
        across = np.abs(a.col[:, None] - b.col)
        across = np.minimum(across, 5400 - across)
        assert np.maximum(down, across).min() >= 128 + 2 * MARGIN
    assert np.bincount(full.split)[0] > 3000
    # Every class can be scored on the blocks that are held out.
    assert set(full.label[full.split == 2]) == {-1, *range(len(CLASSES))}


def test_views_show_the_ground_at_their_pixel(pairs):
    seen = 0
    for record in (r for records in pairs[1].values() for r in records):
        coarse = decode(record["image"]).astype(float)
        for view, (x, y) in zip(record["photos"], record["photo_xy"], strict=True):
            fine = decode(view).astype(float).reshape(8, 4, 8, 4, 3).mean((1, 3))
            left, top = round(x - 4), round(y - 4)
            assert (left, top) == (x - 4, y - 4)
            np.testing.assert_allclose(coarse[top : top + 8, left : left + 8], fine, atol=0.51)
            seen += 1
    assert seen > 1500


def test_positions_agree_with_the_footprint(pairs):
    crossing = False
    for record in (r for records in pairs[1].values() for r in records):
        west, south, east, north = record["footprint"]
        crossing |= east > 180
        lon = west + record["photo_xy"][:, 0] / 32 * (east - west)
        lat = north - record["photo_xy"][:, 1] / 32 * (north - south)
        np.testing.assert_allclose((lon + 180) % 360 - 180, record["photo_lon"], atol=1e-3)
        np.testing.assert_allclose(lat, record["photo_lat"], atol=1e-3)
        assert abs(record["lat"] - (south + north) / 2) < 1e-3


def test_across_the_antimeridian(world):
    record = Cutter(world).tile(312, 5336)
    lon = record["photo_lon"]
    assert lon.min() < -178 and lon.max() > 178
    assert record["footprint"][2] > 180
    x = ((lon + 180) * 15 - 5336) % 5400 / 4
    np.testing.assert_allclose(x, record["photo_xy"][:, 0], atol=1e-3)


def test_a_view_is_the_same_photo_in_every_tile(pairs):
    for records in pairs[1].values():
        photos = {}
        for record in records:
            assert len(set(record["photo_ids"])) == len(record["photo_ids"]) == 16
            for slot, name in enumerate(record["photo_ids"]):
                content = record["photos"][slot], tuple(record["photo_captions"][slot])
                assert photos.setdefault(name, content) == content
    tiles = sum(len(r["photo_ids"]) for r in pairs[1]["train"])
    assert tiles > len({name for r in pairs[1]["train"] for name in r["photo_ids"]})


def test_words_and_labels_are_those_of_the_window(pairs, world):
    gazetteer = load_places()
    for record in pairs[1]["test"][::8]:
        assert "captions" not in record
        for slot, row, col in views(record)[::5]:
            assert record["photo_captions"][slot] == captions(look(world, gazetteer, row, col, 32))
            shares = np.bincount(window(world.cover, row, col, 32).ravel(), minlength=13) / 1024
            assert record["photo_labels"][slot] == classes.labels(shares[None])[0]
        cover = window(world.cover, record["row"], record["col"], 128)
        shares = np.bincount(cover.ravel(), minlength=13) / 128**2
        assert record["label"] == classes.labels(shares[None])[0]


def test_views_tell_of_the_water_as_much_as_there_is(pairs, world):
    tiles, sights = [], []
    for record in pairs[1]["train"]:
        cover = window(world.cover, record["row"], record["col"], 128)
        tiles.append((cover == Kind.WATER).mean())
        windows = [window(world.cover, row, col, 32) for _, row, col in views(record)]
        sights.append(np.mean([(cover == Kind.WATER).mean() for cover in windows]))
    assert np.corrcoef(tiles, sights)[0, 1] > 0.95
    assert abs(np.mean(tiles) - np.mean(sights)) < 0.02


def test_captions_of_water_alone(pairs, world):
    found = 0
    for record in pairs[1]["train"]:
        for slot, row, col in views(record):
            texts = record["photo_captions"][slot]
            assert ("open water" in texts[0].lower()) == (record["photo_labels"][slot] == 0)
            if (window(world.cover, row, col, 32) == Kind.WATER).all():
                found += 1
                assert texts[0].startswith("Open water of ")
                assert not any("shores" in text for text in texts)
                assert all(text.strip() for text in texts)
    assert found > 10


def test_directions_in_a_caption_are_those_of_its_own_window(world, pairs):
    """Pixel 24 of 32 lies in the east, of 64 in the west."""
    gazetteer = load_places()
    corners = {(r, c) for record in pairs[1]["train"] for _, r, c in views(record)}
    corners = sorted(corners)[::3]
    told = set()
    for row, col in corners:
        scene = look(world, gazetteer, row, col, 32)
        found = re.search(r"[Ss]ea in the (north|south|east|west)\b", " ".join(captions(scene)))
        if found:
            y, x = (np.nonzero(scene.sea)[axis].mean() for axis in (0, 1))
            side = {"north": 15.5 - y, "south": y - 15.5, "east": x - 15.5, "west": 15.5 - x}
            assert side[found[1]] > 0
            told.add(found[1])
    assert len(told) == 4


def test_mask_holds_the_most_frequent_cover_of_each_pixel(pairs, world):
    names = datasets.manifest(MINI, pairs[0])["pixel_classes"]
    assert names == [kind.name.lower() for kind in Kind]
    record = pairs[1]["train"][7]
    cover = window(world.cover, record["row"], record["col"], 128)
    mask = decode_mask(record["mask"])
    for y, x in ((0, 0), (5, 20), (31, 31), (16, 9)):
        square = cover[4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        assert mask[y, x] == np.bincount(square.ravel()).argmax()


def test_records_are_read_as_pairs(pairs):
    record = pairs[1]["validation"][0]
    count = len(record["photo_ids"])
    assert record["photo_xy"].shape == (count, 2)
    assert record["photo_lon"].dtype == np.float64
    assert record["embeddings"].shape == (0, 0)
    assert record["tower"] == "" and "Blue Marble" in record["sensor"]
    assert record["gsd"] == pytest.approx(4 * 40_030_000 / 360 / rasters.PER_DEGREE, rel=1e-3)
    assert {len(record[name]) for name in ("photos", "photo_captions", "photo_labels")} == {count}
    assert all(len(texts) == 5 for texts in record["photo_captions"])


def test_pairs_that_were_never_collected(tmp_path):
    with pytest.raises(UserError, match="no collection 'city'.*graft_jax.pairs --name=city"):
        datasets.ensure("ground_satellite_pairs/city", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_check_goes_through_every_pair(mini_zoom_pairs):
    assert check(MINI, mini_zoom_pairs)["splits"]["train"] == 80


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"photos": [b"junk"] * 16}, "photo '.*': 4 bytes are not a readable"),
        ({"photo_xy": np.full((16, 2), 33, np.float32)}, "a photo does not lie on the tile"),
        ({"photo_xy": np.zeros((3, 2), np.float32)}, "16 photos have 3 places"),
        ({"lat": 91.0}, "lat=91.0"),
        ({"label": 11}, "labels .* are not all between"),
    ],
)
def test_bad_pairs(mini_zoom_pairs, change, match):
    kind = check_records.Zoom(datasets.manifest(MINI, mini_zoom_pairs))
    record = datasets.load(MINI, mini_zoom_pairs, "test")[0]
    with pytest.raises(UserError, match=match):
        kind.add("test", record | change)
