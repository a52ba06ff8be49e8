"""Parquet tables as Hugging Face's data sets have them, with paths, and broken."""

import json

import pytest
from made_downloads import picture
from reading import opened, reader, rows

from rsvl_jax.errors import UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path, columns, row_group_size=3, features=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features:
        told = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": told})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def hugging_face(numbers):
    return {
        "image": [{"bytes": picture(i), "path": f"{i}.jpg"} for i in numbers],
        "caption": [[f"tile {i}", f"another {i}"] for i in numbers],
        "label": [i % 2 for i in numbers],
        "lon": [float(i) for i in numbers],
        "lat": [None if i == 2 else -float(i) for i in numbers],
    }


@pytest.fixture
def tables(tmp_path):
    features = {"label": {"names": ["farm", "river"], "_type": "ClassLabel"}}
    write(tmp_path / "in/train-00000-of-00001.parquet", hugging_face(range(7)), features=features)
    write(tmp_path / "in/test-00000-of-00001.parquet", hugging_face(range(7, 9)), features=features)
    return tmp_path / "in"


def test_hugging_face(tables, tmp_path):
    found = opened(tmp_path / "index", "parquet", tables)
    assert not found.random_access and len(found) == 9
    read = rows(found)
    assert [row.split for row in read] == ["test"] * 2 + ["train"] * 7
    assert [row.image for row in read[2:]] == [picture(i) for i in range(7)]
    assert read[3].captions == ["tile 1", "another 1"] and read[3].key == "1.jpg"
    assert (read[3].lon, read[3].lat, read[3].label) == (1.0, -1.0, 1)
    assert (read[4].lon, read[4].lat) == (2.0, None)
    assert found.classes == ["farm", "river"]
    assert found.read(4).key == read[4].key  # in any order, too


def test_paths_and_named_columns(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(picture(1))
    columns = {"picture": ["a.jpg", "b.jpg", None], "words": ["x", "y", None], "split": ["val"] * 3}
    path = write(tmp_path / "in/t.parquet", columns)
    flags = ("--image_key=picture", "--caption_key=words", f"--images={tmp_path / 'images'}")
    first, *dropped = rows(opened(tmp_path / "index", "parquet", path, *flags))
    assert (first.image, first.captions, first.split) == (picture(1), ["x"], "validation")
    assert dropped == ["image is missing"] * 2


def test_bytes_without_a_name_are_numbered(tmp_path):
    path = write(tmp_path / "in/t.parquet", {"image": [picture(1)] * 4, "text": ["a"] * 4})
    found = rows(opened(tmp_path / "index", "parquet", path))
    assert [row.key for row in found] == [f"t.parquet/{i}" for i in range(4)]


def test_missing_columns_are_told(tables, tmp_path):
    path = write(tmp_path / "in2/t.parquet", {"image": [b"x"], "note": ["a"]})
    with pytest.raises(
        UserError, match="no column 'captions' or .*, but 'image', 'note': .*caption"
    ):
        reader("parquet", path)
    write(tables / "train-00001-of-00002.parquet", {"image": [b"x"], "caption": ["a"]})
    with pytest.raises(UserError, match="00001-of-00002.parquet' has no column 'label', as '"):
        opened(tmp_path / "index", "parquet", tables)


def test_broken_files(tables, tmp_path):
    path = tables / "train-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="is no whole Parquet file"):
        opened(tmp_path / "index", "parquet", tables)
    data[4:60] = bytes([255]) * 56  # the head of the first page
    path.write_bytes(data)
    found = rows(opened(tmp_path / "index2", "parquet", path))
    assert found[:3] == ["row group cannot be read"] * 3 and found[4].captions
