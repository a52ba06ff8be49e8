"""Tar shards with the keys of open_clip, RS5M and CLIP_benchmark, and broken ones."""

import io
import json
import tarfile

import pytest
from made_downloads import picture
from reading import opened, reader, rows

from rsvl_jax.errors import UserError


def tar(path, members):
    """Writes {name: bytes} in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def pairs(numbers, image="jpg", text="txt"):
    for i in numbers:
        yield f"{i:05d}.{image}", picture(i)
        yield f"{i:05d}.{text}", f"a tile, number {i}".encode()


@pytest.fixture
def shards(tmp_path):
    for shard in range(3):
        tar(tmp_path / f"in/s-{shard:04d}.tar", pairs(range(4 * shard, 4 * shard + 4)))
    return tmp_path / "in"


@pytest.mark.parametrize("source", ["", "/s-{0000..0002}.tar", "/s-*.tar"])
def test_open_clip_by_folder_braces_and_pattern(shards, tmp_path, source):
    found = rows(opened(tmp_path / "index", "webdataset", f"{shards}{source}"))
    assert [row.captions for row in found] == [[f"a tile, number {i}"] for i in range(12)]
    assert [row.image for row in found] == [picture(i) for i in range(12)]
    assert found[5].key == "s-0001/00005"


def test_rs5m(tmp_path):
    def members():
        yield "a.img_content", picture(1)
        yield "a.img_name", b"pub11_1.jpg"
        yield "a.caption", "a harbour, from “above”".encode()

    tar(tmp_path / "in/pub11-train-0000.tar", members())
    tar(tmp_path / "in/rs3-val-0000.tar", members())
    source = f"{tmp_path}/in/" + "{pub11-train,rs3-val}-{0000..0000}.tar"
    first, second = rows(opened(tmp_path / "index", "webdataset", source))
    assert (first.image, first.captions) == (picture(1), ["a harbour, from “above”"])
    assert (first.split, second.split) == ("train", "validation")


def test_clip_benchmark_classification(tmp_path):
    root = tmp_path / "in"
    for split in ("train", "test"):
        members = [("s0.cls", b"1"), ("s0.webp", picture(3)), ("s1.cls", b"7"), ("s1.webp", b"x")]
        tar(root / split / "0.tar", members)
        (root / split / "nshards.txt").write_text("1")
    (root / "classnames.txt").write_text("annual crop land\nforest\n")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of {c}.\n{c} from above\n")
    found = opened(tmp_path / "index", "webdataset", root)
    assert found.classes == ["annual crop land", "forest"]
    test, bad, train, _ = rows(found)
    assert (test.split, train.split) == ("test", "train")
    assert (test.label, test.image) == (1, picture(3))
    assert test.captions == ["a photo of forest.", "forest from above"]
    assert bad == "label is no number of a class"
    assert any(path.endswith("classnames.txt") for path in found.files())


def test_clip_benchmark_retrieval_has_a_caption_a_line(tmp_path):
    root = tmp_path / "in"
    tar(root / "test/0.tar", [("s0.jpg", picture(1)), ("s0.txt", b"one\ntwo\nthree")])
    (root / "dataset_type.txt").write_text("retrieval")
    (row,) = rows(opened(tmp_path / "index", "webdataset", root))
    assert (row.captions, row.split) == (["one", "two", "three"], "test")


def test_json_beside_the_image(tmp_path):
    told = {"caption": "a river", "lon": 12.5, "latitude": "41.9", "split": "val", "gsd": 0.5}
    bad = [("b.jpg", picture(2)), ("b.json", b"{"), ("c.jpg", picture(3)), ("c.json", b"[1]")]
    tar(tmp_path / "in/0.tar", [("a.jpg", picture(1)), ("a.json", json.dumps(told).encode()), *bad])
    row, *dropped = rows(opened(tmp_path / "index", "webdataset", tmp_path / "in"))
    assert (row.captions, row.lon, row.lat, row.split) == (["a river"], 12.5, 41.9, "validation")
    assert dropped == ["JSON beside the image cannot be read", "JSON beside the image is no object"]


def test_names_that_long_headers_carry(tmp_path):
    name = "deep/" * 40 + "höhe-" + "x" * 90
    for form, kind in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        path = tmp_path / form / "0.tar"
        path.parent.mkdir()
        with tarfile.open(path, "w", format=kind) as archive:
            for ending, data in (("jpg", picture(1)), ("txt", b"a tile")):
                info = tarfile.TarInfo(f"{name}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        (row,) = rows(opened(tmp_path / f"index-{form}", "webdataset", tmp_path / form))
        assert (row.key, row.captions) == (f"0/{name}", ["a tile"])


def test_samples_without_an_image_are_counted(tmp_path):
    members = [("a.txt", b"alone"), *pairs([1]), ("b.jpg", picture(2)), ("readme", b"hello")]
    tar(tmp_path / "in/0.tar", members)
    missing, whole, mute = rows(opened(tmp_path / "index", "webdataset", tmp_path / "in"))
    assert missing == "image is missing" and whole.captions == ["a tile, number 1"]
    assert mute.captions == []  # the build drops it for that


def test_wrong_keys_are_told(tmp_path):
    tar(tmp_path / "in/0.tar", pairs(range(3), image="picture", text="title"))
    line = (
        r"0.tar' has no image \(looked for .jpg.*\), but .picture \(3\), .title \(3\): .*image_key"
    )
    with pytest.raises(UserError, match=line):
        opened(tmp_path / "index", "webdataset", tmp_path / "in")
    flags = ("--image_key=picture", "--caption_key=.title")
    found = rows(opened(tmp_path / "index2", "webdataset", tmp_path / "in", *flags))
    assert [row.captions[0] for row in found] == [f"a tile, number {i}" for i in range(3)]


def test_a_truncated_shard_gives_what_it_has(shards, tmp_path, capsys):
    path = shards / "s-0001.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    found = opened(tmp_path / "index", "webdataset", shards)
    kept = [row for row in rows(found) if not isinstance(row, str)]
    assert 8 <= len(kept) < 12 and found.dropped() == {"shard is truncated": 1}
    assert "s-0001.tar' ends early" in capsys.readouterr().err


def test_a_page_of_html_instead_of_a_shard(shards, tmp_path):
    (shards / "s-0001.tar").write_bytes(b"<html>404</html>" * 100)
    found = opened(tmp_path / "index", "webdataset", shards)
    assert len(rows(found)) == 8 and found.dropped() == {"shard cannot be read": 1}


def test_shards_that_are_not_there(shards, tmp_path):
    (shards / "s-0001.tar").unlink()
    with pytest.raises(UserError, match="1 of 3 files are missing, the first '.*s-0001.tar'"):
        reader("webdataset", f"{shards}/s-{{0000..0002}}.tar")
    (shards / "nshards.txt").write_text("3\n")
    with pytest.raises(UserError, match="nshards.txt' says '3' shards, but there are 2"):
        reader("webdataset", shards)
    with pytest.raises(UserError, match=r"there is no .tar file"):
        reader("webdataset", tmp_path / "elsewhere")
