"""`python -m graft_jax.search` from scenes to files, and what it says of bad input."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import made_scenes as made
import numpy as np
import pytest
import rasterio
from PIL import Image
from search_world import Model

from graft_jax.search.__main__ import run
from rsvl_jax.runtime import exit_status

RED, GREEN, BLUE = (220, 20, 30), (20, 200, 40), (10, 30, 230)


def command(*flags, model=None):
    run([*map(str, flags)], lambda workdir: model or Model())


def build(index, *inputs, **changes):
    command("build", "--workdir=none", f"--index={index}", *[f"--input={i}" for i in inputs])


def find(index, *flags, words=("red", "green"), model=None):
    asked = [f"--query={word}" for word in words]
    command("--workdir=none", f"--index={index}", *asked, *flags, model=model)


def refused(capsys, folder, action):
    """Exit status 2, one line, and nothing written; the line."""
    before = sorted(os.listdir(folder))
    capsys.readouterr()
    assert exit_status(action) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ") and "\n" not in line
    assert sorted(os.listdir(folder)) == before
    return line


@pytest.fixture
def scene(tmp_path):
    """Three tiles: red, green, blue."""
    pixels = np.concatenate([made.plain(colour, 32, 32) for colour in (RED, GREEN, BLUE)], axis=1)
    return made.write(tmp_path / "flag <1>.tif", pixels)


@pytest.fixture
def index(tmp_path, scene):
    (tmp_path / "out").mkdir()
    build(tmp_path / "out" / "tiles.parquet", scene)
    return tmp_path / "out" / "tiles.parquet"


class Page(HTMLParser):
    """Tags that are open at the end, and what the page would fetch."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href") and v[:1] != "#"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_search(tmp_path, index, capsys):
    out = index.parent
    find(
        index,
        *(f"--output={out / 'gallery.html'}", f"--geojson={out / 'hits.geojson'}"),
        *(f"--density={out / 'density.tif'}", "--top=2", "--cell=0.001"),
    )
    names = ["density.png", "density.tif", "gallery.html", "hits.geojson", "tiles.parquet"]
    assert sorted(os.listdir(out)) == names
    printed = capsys.readouterr().out
    first = [line for line in printed.splitlines() if line.startswith("   1 ")]
    assert "r0c0" in first[0] and "r0c32" in first[1]

    text = (out / "gallery.html").read_text()
    page = Page(text)
    assert page.open == [] and all(uri.startswith("data:") for uri in page.sources)
    assert "flag <1>" not in text and "flag &lt;1&gt;.tif/r0c0" in text
    assert text.count("<li id=") == 4 and "“red”" in text and "default-src 'none'" in text
    assert set(re.findall(r'href="#(q\d-\d)"', text)) == set(re.findall(r'id="(q\d-\d)"', text))

    features = json.loads((out / "hits.geojson").read_text())["features"]
    assert [f["properties"]["rank"] for f in features] == [1, 2, 1, 2]
    assert [f["properties"]["column"] for f in features][::2] == [0, 32]
    ring = np.array(features[0]["geometry"]["coordinates"][0])
    assert (ring[0] == ring[-1]).all() and -76 < ring[:, 0].min() < ring[:, 0].max() < -75

    with rasterio.open(out / "density.tif") as file:
        assert file.crs == "EPSG:4326" and np.isnan(file.nodata) and file.dtypes[0] == "float32"
        assert file.descriptions == ("red", "green", "tiles")
        red, green, tiles = file.read()
        assert file.tags()["model"] == "colours-1" and file.tags()["query_1"] == "green"
        seen = np.isfinite(red)
        assert (seen == (tiles > 0)).all() and seen.any()
        left, right = file.index(-75.7278, 37.7588), file.index(-75.7242, 37.7588)
        assert red[left] > 0.9 and green[right] > 0.9 and red[right] < 0.1
    with Image.open(out / "density.png") as picture:
        assert min(picture.size) > 200


def test_threshold_gives_shares(tmp_path, index):
    path = index.parent / "d.tif"
    find(index, f"--density={path}", "--threshold=0.9", "--cell=0.01", words=("red",))
    with rasterio.open(path) as file:
        share, tiles = file.read()
        assert "0.9" in file.tags()["value"]
    known = np.isfinite(share)
    assert (share[known] >= 0).all() and (share[known] <= 1).all()
    assert np.average(share[known], weights=tiles[known]) == pytest.approx(1 / 3, rel=1e-3)


def test_the_same_search_gives_the_same_bytes(index):
    found = []
    for name in ("a.html", "b.html"):
        find(index, f"--output={index.parent / name}")
        found.append((index.parent / name).read_bytes())
    assert found[0] == found[1]


def test_an_index_across_the_antimeridian(tmp_path):
    grid = rasterio.Affine(0.01, 0, 179.5, 0, -0.01, 0.3)
    source = made.write(tmp_path / "s.tif", made.patchwork(32, 96), crs="EPSG:4326", transform=grid)
    index = tmp_path / "t.parquet"
    build(index, source)
    find(
        index,
        *("--bbox=179,-1,-179,1", f"--output={tmp_path / 'g.html'}", "--cell=0.05"),
        f"--density={tmp_path / 'd.tif'}",
    )
    text = (tmp_path / "g.html").read_text()
    places = [float(x) for x in re.findall(r'<circle cx="([-0-9.]+)"', text)]
    assert len(places) == 6 and min(places) > 0 and max(places) < 1000
    with rasterio.open(tmp_path / "d.tif") as file:
        assert file.bounds.left == 179 and file.bounds.right == 181
        known = np.flatnonzero(np.isfinite(file.read(1)).any(axis=0))
    assert (known == np.arange(10, 30)).all()  # 179.5 to 180.46, cells of 0.05 from 179


@pytest.mark.parametrize(
    ("flags", "words", "said"),
    [
        ((), (), "no query"),
        ((), ("  ",), "is empty"),
        ((), ("red", "red"), "twice"),
        (("--bbox=1,2,3",), ("red",), "'1,2,3' must be W,S,E,N"),
        (("--bbox=5,60,10,50",), ("red",), "--bbox=5,60,10,50"),
        (("--bbox=200,0,220,10",), ("red",), "--bbox=200,0,220,10"),
        (("--bbox=nan,0,1,1",), ("red",), "--bbox=nan"),
        (("--bbox=5,0,5,10",), ("red",), "holds nothing"),
        (("--bbox=5,0,10,10",), ("red",), "no tile in --bbox=5,0,10,10"),
        (("--after=2020-13-01",), ("red",), "'2020-13-01'"),
        (("--after=2020-02-01", "--before=2020-01-01"), ("red",), "later than"),
        (("--after=2020-02-01",), ("red",), "have no dates"),
        (("--top=0",), ("red",), "--top=0"),
        (("--template=photo",), ("red",), "{c}"),
        (("--output=OUT/gallery.pdf",), ("red",), "must end in .html"),
        (("--output=OUT/none/g.html",), ("red",), "no folder"),
        (("--density=OUT/d.png",), ("red",), "must end in .tif"),
        (("--cell=1",), ("red",), "--density"),
        (("--density=OUT/d.tif", "--cell=0"), ("red",), "--cell=0"),
        (("--density=OUT/d.tif", "--cell=1e-9", "--output=OUT/g.html"), ("red",), "--cell=1e-09"),
        (("--density=OUT/d.tif", "--threshold=2"), ("red",), "--threshold=2"),
        (("--colour=1",), ("red",), "--colour"),
    ],
)
def test_searches_that_cannot_be_meant(index, capsys, flags, words, said):
    flags = [flag.replace("OUT", str(index.parent)) for flag in flags]
    line = refused(capsys, index.parent, lambda: find(index, *flags, words=words))
    assert said in line


def test_indexes_that_cannot_serve(tmp_path, index, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = index.parent
    other = Model(fingerprint="another")
    line = refused(capsys, out, lambda: find(index, f"--output={out / 'g.html'}", model=other))
    assert "'colours-1'" in line and "'another'" in line
    assert "missing.parquet" in refused(capsys, out, lambda: find(out / "missing.parquet"))
    plain = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"a": [1]}), plain)
    assert "no index" in refused(capsys, out, lambda: find(plain))
    torn = tmp_path / "torn.parquet"
    torn.write_bytes(index.read_bytes()[:-200])
    assert "torn.parquet" in refused(capsys, out, lambda: find(torn))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--input=SCENE or --dataset=NAME"),
        (("--input=SCENE", "--dataset=zoom_pairs"), "one of them"),
        (("--input=none.tif",), "none.tif"),
        (("--input=no*.tif",), "no*.tif"),
        (("--input=OUT",), "is a folder"),
        (("--input=SCENE", "--overlap=1"), "overlap 1"),
        (("--input=SCENE", "--min_valid=0"), "valid share of 0"),
        (("--input=SCENE", "--batch_size=0"), "batch size 0"),
        (("--input=SCENE", "--date=June"), "'June'"),
        (("--input=SCENE", "--gsd=40"), "24 x 8 pixels"),
        (("--dataset=zoom_pears", "--data_dir=OUT"), "zoom_pears"),
        (("--dataset=zoom_pairs/mini", "--data_dir=OUT"), "build it with"),
        (("--dataset=ground_satellite_pairs/mine", "--data_dir=OUT"), "mine"),
        (("--dataset=zoom_pairs", "--gsd=10"), "--gsd"),
    ],
)
def test_builds_that_cannot_be_meant(tmp_path, scene, capsys, flags, said):
    (tmp_path / "out").mkdir()
    flags = [flag.replace("OUT", str(tmp_path / "out")).replace("SCENE", scene) for flag in flags]
    path = tmp_path / "out" / "t.parquet"
    line = refused(
        capsys,
        tmp_path / "out",
        lambda: command("build", "--workdir=none", f"--index={path}", *flags),
    )
    assert said in line


def test_the_command_itself(tmp_path):
    finished = subprocess.run(
        [sys.executable, "-m", "graft_jax.search", "--workdir=none", "--index=none.parquet"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 2 and finished.stdout == ""
    assert finished.stderr.startswith("error: no query") and finished.stderr.count("\n") == 1
