"""`check` of data sets built from downloads and of pairs: what is damaged is found and named."""

import json
import os
import shutil

import numpy as np
import pytest
from made_downloads import picture

from rsvl_jax import datasets
from rsvl_jax.datasets import check_records
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.datasets.check import check
from rsvl_jax.errors import UserError

NAME = "image_text/made"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    for number in range(20):
        path = folder / f"in/{'ab'[number % 2]}/{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    where = [f"--source={folder / 'in'}", "--name=made", f"--data_dir={folder}"]
    run(
        [
            "build",
            "folder",
            *where,
            "--workers=1",
            "--vocabulary=300",
            "--test=0.2",
            "--shard_mb=0.01",
        ]
    )
    return str(folder)


@pytest.fixture
def copy(built, tmp_path):
    shutil.copytree(os.path.join(built, "image_text"), tmp_path / "image_text")
    return str(tmp_path), tmp_path / "image_text/made/1.0.0"


@pytest.fixture
def record(built):
    return datasets.load(NAME, built, "train")[0]


def test_a_whole_set_is_good(built, capsys):
    assert check(NAME, built)["classes"] == ["a", "b"]
    run(["check", NAME, f"--data_dir={built}"])
    assert "every record is good: image_text/made" in capsys.readouterr().out


def test_damage_on_the_disk(copy):
    data_dir, directory = copy
    shard = next(directory.glob("*-train.array_record*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 255
    shard.write_bytes(data)
    with pytest.raises(UserError, match="is corrupt, its hash is wrong"):
        check(NAME, data_dir)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"fingerprint": "0" * 64}, "are not those of its manifest"),
        ({"splits": {"train": 3, "validation": 0, "test": 4}}, "records, not {.*as its manifest"),
        ({"classes": []}, "label . is not between -1 and -1"),
    ],
)
def test_a_manifest_of_other_records(copy, change, match):
    data_dir, directory = copy
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=match):
        check(NAME, data_dir)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"image": b"junk"}, "not a readable PNG or JPEG"),
        ({"width": 47}, "its image is 48 x 40, not 47 x 40 pixels"),
        ({"captions": []}, "it has no caption"),
        ({"captions": ["a", " "]}, "are empty"),
        ({"lon": 140.0, "lat": 95.0}, "lat=95.0 is outside"),
        ({"lon": 1.0, "lat": 2.0, "box": np.array([2.0, 1, 1, 3])}, "is not W, S, E, N"),
        ({"phrases": ["a"], "boxes": np.array([[0, 0, 99, 9]], np.float32)}, "not inside"),
        ({"phrases": ["a"]}, "1 phrases have 0 boxes"),
        ({"label": 2}, "label 2 is not between -1 and 1"),
    ],
)
def test_bad_records_of_downloads(built, record, change, match):
    kind = check_records.ImageText(NAME, built, datasets.manifest(NAME, built))
    with pytest.raises(UserError, match=f"record '{record['id']}': .*{match}"):
        kind.add("train", record | change)


def test_ids_that_come_twice(built, record):
    kind = check_records.ImageText(NAME, built, datasets.manifest(NAME, built))
    kind.add("train", record)
    with pytest.raises(UserError, match="its id comes twice"):
        kind.add("test", record)
