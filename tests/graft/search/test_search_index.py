"""From scenes and data sets to an index."""

import datetime
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import made_scenes as made
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import rasterio.warp
from colours_model import embed
from search_world import Model

from graft_jax.search.build import build
from graft_jax.search.index import Index
from graft_jax.search.settings import Build
from rsvl_jax import datasets
from rsvl_jax.data.transforms import decode
from rsvl_jax.errors import UserError


def make(tmp_path, *inputs, model=None, name="tiles.parquet", **changes):
    settings = Build(index=str(tmp_path / name), inputs=tuple(map(str, inputs)), **changes)
    made_ = build(settings, model or Model())
    return made_, pq.read_table(settings.index).to_pylist()


@pytest.fixture
def scene(tmp_path):
    return made.write(tmp_path / "scene.tif", made.patchwork(70, 101))


def test_tiles_cover_the_scene_and_say_where_they_are(tmp_path, scene):
    with rasterio.open(scene, "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2021:06:30 10:11:12")
    summary, rows = make(tmp_path, scene)
    assert summary.tiles == len(rows) == 12 and "12 tiles" in str(summary)
    corners = [(r, c) for r in (0, 32, 38) for c in (0, 32, 64, 69)]
    assert [(row["row"], row["column"]) for row in rows] == corners
    pixels, model = made.patchwork(70, 101), Model()
    for row in rows:
        y, x = row["row"], row["column"]
        part = pixels[y : y + 32, x : x + 32]
        wanted = model.images(part[None])["image"][0]
        np.testing.assert_array_equal(row["embedding"], wanted.astype(np.float16))
        assert row["source"] == scene and row["source_crs"] == made.UTM
        assert row["gsd"] == 10 and row["valid"] == 1
        assert row["date"] == datetime.date(2021, 6, 30)
        picture = cv2.imdecode(np.frombuffer(row["thumbnail"], np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.abs(picture.astype(int) - part).mean() < 20
        with rasterio.open(scene) as file:
            bounds = rasterio.windows.bounds(rasterio.windows.Window(x, y, 32, 32), file.transform)
            west, south, east, north = rasterio.warp.transform_bounds(
                file.crs, "EPSG:4326", *bounds
            )
        box = [row["bbox"][edge] for edge in ("xmin", "ymin", "xmax", "ymax")]
        np.testing.assert_allclose(box, (west, south, east, north), atol=1e-6)
        assert west < row["lon"] < east and south < row["lat"] < north
    assert len({row["id"] for row in rows}) == 12


def test_the_index_is_the_same_whatever_the_batch_size(tmp_path, scene):
    other = made.write(tmp_path / "z.tif", made.patchwork(64, 40, seed=3))
    found = []
    for batch_size in (1, 5, 64):
        name = f"{batch_size}.parquet"
        make(tmp_path, scene, other, name=name, batch_size=batch_size, overlap=0.25)
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1] == found[2]


def test_a_model_on_the_devices_sees_the_batch_whole(tmp_path, scene):
    class Jitted(Model):
        def images(self, pixels):
            assert len(pixels.sharding.device_set) == jax.device_count()
            mean = jax.jit(lambda p: p.astype(jnp.float32).mean(axis=(1, 2)))(pixels)
            return {"image": embed(mean)}

    _, plain = make(tmp_path, scene)
    _, found = make(tmp_path, scene, model=Jitted(), batch_size=3)
    for one, other in zip(plain, found, strict=True):
        np.testing.assert_allclose(one["embedding"], other["embedding"], atol=1e-3)


def test_geoparquet_metadata(tmp_path, scene):
    make(tmp_path, scene)
    file = pq.ParquetFile(tmp_path / "tiles.parquet")
    geo = json.loads(file.metadata.metadata[b"geo"])
    assert geo["version"] == "1.1.0" and geo["primary_column"] == "geometry"
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB" and column["crs"]["id"]["code"] == "CRS84"
    assert column["covering"]["bbox"]["xmax"] == ["bbox", "xmax"]
    west, south, east, north = column["bbox"]
    assert -75.8 < west < east < -75.6 and 37.7 < south < north < 37.8
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.read_parquet(tmp_path / "tiles.parquet")
    assert frame.crs == "OGC:CRS84" and frame.geometry.is_valid.all() and len(frame) == 12
    np.testing.assert_allclose(frame.total_bounds, column["bbox"])
    assert set(frame.geom_type) == {"Polygon"}


def test_gsd_resamples(tmp_path):
    cells = np.random.default_rng(1).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    source = made.write(tmp_path / "s.tif", cells.repeat(4, axis=0).repeat(4, axis=1))
    from rsvl_jax.rasters.scene import View

    _, rows = make(tmp_path, source, view=View(gsd=40.0))
    assert [(row["row"], row["column"]) for row in rows] == [(0, 0), (0, 32), (8, 0), (8, 32)]
    wanted = Model().images(cells[None, :32, :32])["image"][0]
    np.testing.assert_allclose(rows[0]["embedding"], wanted, atol=2e-3)
    assert rows[0]["gsd"] == 40


def test_what_cannot_serve_is_counted(tmp_path, scene, capsys):
    pixels = made.patchwork(32, 96)
    pixels[:, 32:64] = 0
    pixels[:20, 64:] = 0
    holes = made.write(tmp_path / "holes.tif", pixels, nodata=0)
    made.write(tmp_path / "small.tif", made.patchwork(31, 400))
    made.write(tmp_path / "lost.tif", made.patchwork(64, 64), crs=None)
    (tmp_path / "text.tif").write_text("not a raster")
    summary, rows = make(tmp_path, tmp_path / "*.tif", holes, scene)  # some are given twice
    assert summary.counts.skipped("scene") == {"cannot be used": 2, "smaller than a tile": 1}
    assert summary.counts.skipped("tile") == {"too few valid pixels": 2}
    text = str(summary)
    assert "too few valid pixels: 2 tiles" in text and "smaller than a tile: 1 scene" in text
    assert "400 x 31 pixels" in text and "no CRS" in text and "text.tif" in text
    assert len(rows) == 12 + 1 and {row["source"] for row in rows} == {scene, holes}


def test_a_truncated_scene_gives_what_can_be_read(tmp_path, scene):
    torn = made.write(
        tmp_path / "torn.tif", made.patchwork(256, 64), compress="deflate", blockysize=32
    )
    os.truncate(torn, os.path.getsize(torn) // 2)
    summary, rows = make(tmp_path, scene, torn)
    lost = summary.counts.skipped("tile").get("cannot be read", 0)
    whole = summary.counts.skipped("scene").get("cannot be used", 0)
    assert lost + len(rows) == 12 + 16 and lost >= 6 or whole == 1
    assert "torn.tif" in str(summary)


def test_a_data_set(tmp_path, mini_zoom_pairs):
    settings = Build(
        index=str(tmp_path / "t.parquet"), dataset="zoom_pairs/mini", data_dir=mini_zoom_pairs
    )
    summary = build(settings, Model())
    rows = pq.read_table(settings.index).to_pylist()
    counts = datasets.manifest("zoom_pairs/mini", mini_zoom_pairs)["splits"]
    assert summary.tiles == len(rows) == sum(counts.values())
    test = build(
        Build(
            index=str(tmp_path / "test.parquet"),
            dataset="zoom_pairs/mini",
            split="test",
            data_dir=mini_zoom_pairs,
        ),
        Model(),
    )
    assert test.tiles == counts["test"]
    first = datasets.load("zoom_pairs/mini", mini_zoom_pairs, "test")[0]
    row = pq.read_table(str(tmp_path / "test.parquet")).to_pylist()[0]
    wanted = Model().images(decode(first["image"])[None])["image"][0]
    np.testing.assert_array_equal(row["embedding"], wanted.astype(np.float16))
    assert row["id"] == first["id"] and row["lon"] == first["lon"] and row["date"] is None
    west, south, east, north = first["footprint"].tolist()
    box = row["bbox"]
    assert (box["ymin"], box["ymax"]) == (south, north) and box["xmin"] == west
    assert (box["xmax"] - east) % 360 == 0
    shrunk, again = Model(image_size=16), tmp_path / "shrunk.parquet"
    build(
        Build(index=str(again), dataset="zoom_pairs/mini", split="test", data_dir=mini_zoom_pairs),
        shrunk,
    )
    halved = pq.read_table(str(again)).to_pylist()[0]
    assert halved["gsd"] == pytest.approx(2 * row["gsd"], rel=1e-6)
    np.testing.assert_allclose(halved["embedding"], row["embedding"], atol=5e-3)


@pytest.mark.parametrize("kind", ["small", "empty"])
def test_nothing_at_all_is_an_error_and_no_file(tmp_path, kind):
    pixels = made.patchwork(20, 90) if kind == "small" else made.plain((0, 0, 0), 64, 64)
    source = made.write(tmp_path / "s.tif", pixels, nodata=0)
    before = sorted(os.listdir(tmp_path))
    said = "90 x 20 pixels" if kind == "small" else "too few valid pixels"
    with pytest.raises(UserError, match=said):
        make(tmp_path, source)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("bad", ["raises", "nan"])
def test_a_failing_model_leaves_the_older_index(tmp_path, scene, bad):
    class Fails(Model):
        def images(self, pixels):
            if bad == "raises":
                raise RuntimeError("out of memory")
            return {"image": super().images(pixels)["image"] * np.float32(np.nan)}

    make(tmp_path, scene)
    older = (tmp_path / "tiles.parquet").read_bytes()
    before = sorted(os.listdir(tmp_path))
    with pytest.raises((RuntimeError, UserError), match="out of memory|NaN"):
        make(tmp_path, scene, model=Fails())
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "tiles.parquet").read_bytes() == older


_SLOW = """
import sys, time
sys.path[:0] = sys.argv[2:]
from search_world import Model
from graft_jax.search.build import build
from graft_jax.search.settings import Build
class Slow(Model):
    def images(self, pixels):
        print("seen", flush=True)
        time.sleep(0.2)
        return super().images(pixels)
folder = sys.argv[1]
build(Build(index=folder + "/t.parquet", inputs=(folder + "/s.tif",), batch_size=1), Slow())
"""


def test_a_killed_build_leaves_nothing_under_its_name(tmp_path):
    made.write(tmp_path / "s.tif", made.patchwork(640, 640))
    here = Path(__file__).parent
    child = subprocess.Popen(
        [sys.executable, "-c", _SLOW, str(tmp_path), str(here), str(here.parent / "map")],
        stdout=subprocess.PIPE,
        cwd=here.parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        text=True,
    )
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(3)] == ["seen\n"] * 3
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "t.parquet").exists()
    with pytest.raises(UserError, match="cannot open"):
        Index(str(tmp_path / "t.parquet"))
