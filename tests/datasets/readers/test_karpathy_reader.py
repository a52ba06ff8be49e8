"""Karpathy's JSON as RSICD, RSITMD, UCM- and Sydney-captions have it."""

import json

import pytest
from made_downloads import picture
from reading import opened, reader, rows

from rsvl_jax.errors import UserError


def image(number, split="train", **changes):
    sentences = [
        {"tokens": ["a"], "raw": f"a tile {number} .", "imgid": number, "sentid": 5 * number + k}
        for k in range(2)
    ]
    return {
        "filename": f"{number}.jpg",
        "imgid": number,
        "sentences": sentences,
        "split": split,
    } | (changes)


@pytest.fixture
def rsicd(tmp_path):
    """RSICD_images/ beside dataset_rsicd.json; returns a function that writes the JSON anew."""
    folder = tmp_path / "RSICD/RSICD_images"
    folder.mkdir(parents=True)
    for number in range(4):
        (folder / f"{number}.jpg").write_bytes(picture(number))

    def write(images, **more):
        path = tmp_path / "RSICD/dataset_rsicd.json"
        path.write_text(json.dumps({"images": images, "dataset": "rsicd"} | more))
        return path

    write([image(0), image(1, "val"), image(2, "test"), image(3, "restval")])
    return write


def test_images_with_their_sentences_and_splits(rsicd, tmp_path):
    found = rows(opened(tmp_path / "index", "karpathy", tmp_path / "RSICD"))
    assert [row.split for row in found] == ["train", "validation", "test", "train"]
    assert found[2].captions == ["a tile 2 .", "a tile 2 ."]
    assert found[3].image == picture(3) and found[3].key == "3.jpg"


def test_rows_that_cannot_be_used_are_counted(rsicd, tmp_path):
    path = rsicd(
        [
            image(0),
            image(9),
            image(1, sentences=None),
            image(2, sentences=[{"raw": 7}, "a plain text"]),
            {"sentences": []},
            "text",
        ]
    )
    found = rows(opened(tmp_path / "index", "karpathy", path))
    assert found[0].captions and found[3].captions == ["a plain text"]
    assert [found[1], found[2], *found[4:]] == [
        "image is missing",
        "caption is missing",
        "image has no filename",
        "image has no filename",
    ]


def test_images_in_a_folder_that_is_named(rsicd, tmp_path):
    (tmp_path / "RSICD/RSICD_images").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="holds the images: name it with --images"):
        opened(tmp_path / "index", "karpathy", tmp_path / "RSICD")
    flag = f"--images={tmp_path / 'elsewhere'}"
    assert rows(opened(tmp_path / "index2", "karpathy", tmp_path / "RSICD", flag))[0].image
    with pytest.raises(UserError, match="--images='nowhere' is no folder"):
        reader("karpathy", tmp_path / "RSICD", "--images=nowhere")


def test_other_encodings(rsicd, tmp_path):
    path = tmp_path / "RSICD/dataset_rsicd.json"
    images = [image(0, sentences=[{"raw": "港口"}])]
    path.write_bytes(json.dumps({"images": images}, ensure_ascii=False).encode("gb18030"))
    with pytest.raises(UserError, match="is not utf-8 .*: give --encoding, as gb18030"):
        opened(tmp_path / "index", "karpathy", path)
    (row,) = rows(opened(tmp_path / "index2", "karpathy", path, "--encoding=gb18030"))
    assert row.captions == ["港口"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"images": [', "is no whole JSON"),
        ('{"annotations": [], "info": 1}', "has no list \"images\", but 'annotations', 'info'"),
        ("[1, 2]", 'has no list "images", but list'),
        ('{"images": []}', "empty list"),
    ],
)
def test_files_that_are_none(rsicd, tmp_path, text, match):
    path = tmp_path / "RSICD/dataset_rsicd.json"
    path.write_text(text)
    with pytest.raises(UserError, match=match):
        opened(tmp_path / "index", "karpathy", path)


def test_a_folder_must_say_which_file(rsicd, tmp_path):
    (tmp_path / "RSICD/dataset_b.json").write_text("{}")
    with pytest.raises(UserError, match="holds 2 JSON files"):
        reader("karpathy", tmp_path / "RSICD")
    with pytest.raises(UserError, match="neither a JSON file nor a folder"):
        reader("karpathy", tmp_path / "nothing")
