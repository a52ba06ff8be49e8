"""Every layout from its download to a data set, by the command."""

import csv
import math

import numpy as np
import pytest
from made_downloads import picture
from test_geotiff_reader import numbered, s2_100k, scene  # noqa: F401 a fixture
from test_karpathy_reader import image
from test_karpathy_reader import rsicd as karpathy  # noqa: F401 a fixture
from test_parquet_reader import hugging_face, write
from test_webdataset_reader import pairs, tar

from rsvl_jax import datasets
from rsvl_jax.data.transforms import decode
from rsvl_jax.datasets.__main__ import run


def built(tmp_path, layout, source, *flags):
    """The manifest and the training records by id."""
    where = ["--name=made", f"--data_dir={tmp_path / 'data'}"]
    few = ["--workers=1", "--vocabulary=300", "--validation=0", "--test=0"]
    run(["build", layout, f"--source={source}", *where, *few, *flags])
    name, data_dir = "image_text/made", str(tmp_path / "data")
    manifest = datasets.manifest(name, data_dir)
    train = {record["id"]: record for record in datasets.load(name, data_dir, "train")}
    assert len(train) == manifest["splits"]["train"]
    return manifest, train


def test_webdataset(tmp_path, capsys):
    bad = [("x.jpg", b"<html>"), ("x.txt", b"a page"), ("y.jpg", picture(9)), ("z.txt", b"alone")]
    tar(tmp_path / "in/0.tar", [*pairs(range(6)), *bad])
    manifest, train = built(tmp_path, "webdataset", tmp_path / "in")
    assert sorted(train) == [f"0/{i:05d}" for i in range(6)]
    assert train["0/00003"]["captions"] == ["a tile, number 3"]
    assert sum(manifest["dropped"].values()) == 3 and manifest["dropped"]["image is missing"] == 1
    assert "train 6" in capsys.readouterr().out


def test_karpathy(tmp_path, karpathy):  # noqa: F811
    karpathy([image(n, ("train", "train", "val", "test")[n]) for n in range(4)] + [image(7)])
    manifest, train = built(tmp_path, "karpathy", tmp_path / "RSICD")
    assert manifest["splits"] == {"train": 2, "validation": 1, "test": 1}
    assert manifest["dropped"] == {"image is missing": 1}
    assert train["1.jpg"]["captions"] == ["a tile 1 ."] and math.isnan(train["1.jpg"]["lon"])


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow")
    write(tmp_path / "in/train-0.parquet", hugging_face([0, 1, 3, 4, 5, 6, 7]), row_group_size=2)
    manifest, train = built(tmp_path, "parquet", tmp_path / "in")
    assert len(train) == 7 and train["5.jpg"]["image"] == picture(5)
    assert train["5.jpg"]["captions"] == ["tile 5", "another 5"]
    assert (train["5.jpg"]["lon"], train["5.jpg"]["lat"]) == (5.0, -5.0)


def test_geotiff(tmp_path):
    pytest.importorskip("rasterio")
    scene(tmp_path / "in/a.tif", numbered())
    manifest, train = built(tmp_path, "geotiff", tmp_path / "in", "--size=32")
    assert len(train) == 12 and manifest["parts"] == ["image"]
    tile = train["a.tif/38_68"]
    np.testing.assert_array_equal(decode(tile["image"]), numbered()[:, 38:, 68:].transpose(1, 2, 0))
    assert tile["captions"] == [] and tile["gsd"] == 10.0 and 30 < tile["lat"] < 40
    assert manifest["has"]["train"]["located"] == 12


def test_s2_100k(tmp_path, s2_100k):  # noqa: F811
    manifest, train = built(tmp_path, "s2_100k", s2_100k)
    assert set(train) == {"patch_0.tif", "patch_1.tif"}
    assert sum(manifest["dropped"].values()) == 3
    with open(tmp_path / "data/image_text/made/1.0.0/dropped.csv", newline="") as file:
        assert {row["key"] or row["detail"] for row in csv.DictReader(file)}


def test_images_and_texts(tmp_path):
    for number in range(5):
        path = tmp_path / f"in/{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(number) if number else b"no picture")
    manifest, train = built(tmp_path, "images", tmp_path / "in")
    assert len(train) == 4 and manifest["parts"] == ["image"]
    (tmp_path / "words.txt").write_text("a river\na forest\n\na river\n" + "x" * 5000 + "\n")
    run(
        ["build", "texts", f"--source={tmp_path / 'words.txt'}", "--name=words", "--workers=1"]
        + [f"--data_dir={tmp_path / 'data'}", "--vocabulary=300", "--validation=0", "--test=0"]
    )
    words = datasets.load("image_text/words", str(tmp_path / "data"), "train")
    assert sorted(r["captions"][0] for r in words) == ["a forest", "a river", "a river"]
    assert all(record["image"] == b"" for record in words)
