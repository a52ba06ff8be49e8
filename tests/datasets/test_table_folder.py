"""Pairs from CSV files, as open_clip reads them, and from folders."""

import json

import numpy as np
import pytest
from made_downloads import picture

from rsvl_jax import datasets
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.datasets.image_text.readers.lines import Lines
from rsvl_jax.errors import UserError
from rsvl_jax.runtime import exit_status


@pytest.fixture
def photos(tmp_path):
    """Eight images in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    return folder


def build(tmp_path, layout, source, *more, status=0):
    words = ["build", layout, f"--source={source}", f"--data_dir={tmp_path / 'data'}", "--name=x"]
    assert exit_status(lambda: run([*words, "--workers=1", "--vocabulary=300", *more])) == status
    return datasets.manifest("image_text/x", str(tmp_path / "data")) if status == 0 else None


def records(tmp_path):
    manifest = datasets.manifest("image_text/x", str(tmp_path / "data"))
    found = {}
    for split in manifest["splits"]:
        for record in datasets.load("image_text/x", str(tmp_path / "data"), split):
            found[record["id"]] = {**record, "split": split}
    return found


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_csv_with_every_column(tmp_path, photos, separator):
    names = ["filepath", "title", "lon", "lat", "split", "label", "gsd", "phrases", "boxes"]
    boxes = json.dumps([[1, 2, 10, 12]])
    lines = [names]
    for n in range(8):
        split = ("train", "val", "test", "train")[n % 4]
        row = [f"{n}.jpg", f'a "b", {n}', 10 + n, -20, split, f"c{n % 2}", 0.5, '["b"]', boxes]
        lines.append([str(value) for value in row])
    text = "\n".join(
        separator.join('"' + field.replace('"', '""') + '"' for field in line) for line in lines
    )
    (photos / "pairs.csv").write_text("\ufeff" + text)
    manifest = build(tmp_path, "csv", photos / "pairs.csv")
    assert manifest["splits"] == {"train": 4, "validation": 2, "test": 2}
    assert manifest["classes"] == ["c0", "c1"] and len(manifest["prompts"]) == 2
    record = records(tmp_path)["5.jpg"]
    assert record["captions"] == ['a "b", 5']
    assert (record["lon"], record["lat"], record["gsd"]) == (15, -20, 0.5)
    assert (record["split"], record["label"]) == ("validation", 1)
    assert record["phrases"] == ["b"]
    np.testing.assert_array_equal(record["boxes"], [[1, 2, 10, 12]])


def test_names_of_columns_are_given_as_open_clip_gives_them(tmp_path, photos):
    lines = ["where;what;more", *(f"{n}.jpg;{n};thing {n}" for n in range(8))]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    flags = [f"--images={photos}", "--csv-img-key=where", "--csv-caption-key=what,more"]
    build(tmp_path, "csv", tmp_path / "pairs.txt", *flags, "--csv-separator=;")
    assert records(tmp_path)["3.jpg"]["captions"] == ["3", "thing 3"]


def test_rows_of_one_image_are_put_together(tmp_path, photos):
    lines = ["filepath\ttitle", *(f"{n % 4}.jpg\tcaption {n}" for n in range(8))]
    (photos / "pairs.tsv").write_text("\n".join(lines))
    manifest = build(tmp_path, "csv", photos / "pairs.tsv")
    assert records(tmp_path)["1.jpg"]["captions"] == ["caption 1", "caption 5"]
    assert manifest["changed"] == {"row put together with the first of its image": 4}


def test_bad_rows_are_counted_and_others_stay(tmp_path, photos):
    lines = [
        "filepath,title,lon,lat,box",
        *(f"{n}.jpg,thing,,nan," for n in range(3)),
        "3.jpg,thing,95,10,",
        "4.jpg,thing,10,95,",
        "5.jpg,thing,east,10,",
        '6.jpg,thing,,,"179.9, -1, -179.9, 1"',
        "none.jpg,thing,,,",
        ",thing,,,",
        '7.jpg,"",,,',
        "7.jpg",
        "\0.jpg,thing,,,",
    ]
    (photos / "pairs.csv").write_text("\n".join(lines))
    manifest = build(tmp_path, "csv", photos / "pairs.csv")
    assert manifest["dropped"] == {
        "caption is empty": 1,
        "coordinates are out of range": 1,
        "image cannot be read": 1,
        "image is missing": 2,
        "lon is not a number": 1,
        "row has another number of fields than the header": 1,
    }
    found = records(tmp_path)
    assert found["6.jpg"]["lon"] == pytest.approx(-180)
    assert np.isnan(found["0.jpg"]["lon"])


def test_other_encodings_are_read_where_they_are_named(tmp_path, photos):
    lines = ["filepath,title", *(f"{n}.jpg,卫星图像 {n}" for n in range(8))]
    (photos / "pairs.csv").write_bytes("\n".join(lines).encode("gb18030"))
    build(tmp_path, "csv", photos / "pairs.csv", "--encoding=utf-8", status=2)
    build(tmp_path, "csv", photos / "pairs.csv", "--encoding=gb18030")
    assert records(tmp_path)["2.jpg"]["captions"] == ["卫星图像 2"]


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (b"a,b\n1,2\n", [], "has no column 'filepath' or "),
        (b"filepath,title\n", ["--image_key=img"], "has no column 'img', but 'filepath', 'title'"),
        (b"filepath,title\n", ["--lon_key=x"], "--lon_key"),
        (b"filepath,title\n", ["--separator=ab"], "give one character"),
        (b"filepath,title\n", ["--encoding=utf-16"], "--encoding='utf-16'"),
        (b"filepath,title\n", ["--encoding=klingon"], "--encoding='klingon'"),
        ("filepath,title\n".encode("utf-16"), [], "is UTF-16"),
        (b"PK\x03\x04\0\0\0", [], "is not a text file"),
        (b"filepath,title\n", [], "the source has no rows"),
        (b"", [], "has no column"),
    ],
)
def test_files_that_are_no_tables_of_pairs_get_one_line(tmp_path, content, flags, message, capsys):
    (tmp_path / "pairs.csv").write_bytes(content)
    build(tmp_path, "csv", tmp_path / "pairs.csv", *flags, status=2)
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(told) == 1 and message in told[0]
    assert not (tmp_path / "data" / "image_text").exists()


def test_a_missing_file_gets_one_line(tmp_path, photos, capsys):
    build(tmp_path, "csv", tmp_path / "none.csv", status=2)
    build(tmp_path, "csv", photos, status=2)
    told = capsys.readouterr().err
    assert "No such file" in told and "is a folder: give the CSV" in told


def test_lines_agree_with_pythons_csv(tmp_path):
    text = (
        'a,b\n1,"two\nlines, and ""marks"""\n\n  \n5" pipe,unquoted "mark"\n"x",\r\n'
        '"never closed,1\n7,8\n'
    )
    (tmp_path / "t.csv").write_text(text, newline="")
    lines = Lines(str(tmp_path / "t.csv"))
    lines.prepare(str(tmp_path / "index.npy"))
    lines.open(str(tmp_path / "index.npy"))
    found = []
    for row in range(len(lines)):
        try:
            found.append(tuple(lines.read(row).values()))
        except Exception as error:
            found.append(type(error).__name__)
    assert found == [
        ("1", 'two\nlines, and "marks"'),
        ('5" pipe', 'unquoted "mark"'),
        ("x", ""),
        "Drop",
        ("7", "8"),
    ]


def test_a_folder_a_class_with_splits(tmp_path):
    for number in range(12):
        folder = tmp_path / "sets" / ("train", "val", "test")[number % 3] / f"dry_land{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(picture(number))
    (tmp_path / "sets" / "notes.md").write_text("no image")
    manifest = build(tmp_path, "folder", tmp_path / "sets")
    assert manifest["classes"] == ["dry_land0", "dry_land1"]
    assert manifest["splits"] == {"train": 4, "validation": 4, "test": 4}
    record = records(tmp_path)["val/dry_land1/1.jpg"]
    assert record["label"] == 1 and record["captions"] == ["a satellite image of dry land1."]


def test_texts_and_json_beside_the_images(tmp_path, photos):
    for number in range(6):
        (photos / f"{number}.txt").write_text(f"first {number}\n\nsecond\n")
    beside = {"caption": "of json", "lon": 5, "lat": "6.5", "split": "test", "tags": {"a": 1}}
    beside |= {"phrases": ["json"], "boxes": [[0, 0, 5, 5]], "bbox": [4, 6, 6, 7]}
    (photos / "6.json").write_text(json.dumps(beside))
    (photos / "7.json").write_text("{broken")
    manifest = build(tmp_path, "folder", photos)
    assert manifest["classes"] == []
    assert manifest["dropped"] == {"JSON beside the image cannot be read": 1}
    found = records(tmp_path)
    assert found["3.jpg"]["captions"] == ["first 3", "second"]
    record = found["6.jpg"]
    assert record["captions"] == ["of json"] and record["split"] == "test"
    assert (record["lon"], record["lat"], record["tags"]) == (5, 6.5, '{"a": 1}')
    np.testing.assert_array_equal(record["box"], [4, 6, 6, 7])
    assert record["phrases"] == ["json"]


def test_images_without_any_text_are_dropped(tmp_path, photos):
    (photos / "0.txt").write_text("the only one\n")
    (photos / "1.txt").write_text("and another\n")
    assert build(tmp_path, "folder", photos)["dropped"] == {"caption is missing": 6}


def test_folders_without_images_get_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    build(tmp_path, "folder", tmp_path / "empty", status=2)
    build(tmp_path, "folder", tmp_path / "none", status=2)
    told = capsys.readouterr().err
    assert "no image in" in told and "is no folder" in told


def test_columns_are_asked_for_by_the_flag_that_names_them(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="--image_key"):
        Lines(str(tmp_path / "t.csv")).column(("c", "d"), "image_key")
