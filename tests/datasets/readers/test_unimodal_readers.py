"""Folders of images without captions, and text files without images."""

import pytest
from made_downloads import picture
from reading import opened, reader, rows

from rsvl_jax.errors import UserError


def test_images(tmp_path):
    for number, name in enumerate(("b/2.png", "a/1.jpg", "test/3.tif")):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(picture(number))
    (tmp_path / "in/a/1.json").write_text('{"caption": "not read", "lon": 3, "lat": 4}')
    (tmp_path / "in/notes.txt").write_text("nothing")
    found = opened(tmp_path / "index", "images", tmp_path / "in")
    assert found.parts == {"image"} and not found.classes
    first, second, third = rows(found)
    assert (first.key, first.image, first.lon, first.captions) == ("a/1.jpg", picture(1), 3.0, ())
    assert (second.key, third.split) == ("b/2.png", "test")


def test_texts(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_bytes("a river\n\n  höhe \r\n".encode())
    (folder / "b.txt").write_bytes(b"latin \xe9\nlast without an end")
    found = opened(tmp_path / "index", "texts", folder)
    assert found.parts == {"captions"}
    read = rows(found)
    assert [row.captions[0] for row in read[:2]] == ["a river", "höhe"]
    assert read[2].captions == ["latin \udce9"]  # told by the build, not lost
    assert read[3].captions == ["last without an end"] and read[3].image == b""
    assert len({row.key for row in read}) == 4
    latin = rows(opened(tmp_path / "index2", "texts", folder / "b.txt", "--encoding=latin-1"))
    assert latin[0].captions == ["latin é"]


def test_sources_that_are_none(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        reader("images", tmp_path / "nothing")
    with pytest.raises(UserError, match="there is no .txt or .text file"):
        reader("texts", tmp_path)
    with pytest.raises(UserError, match="--encoding='klingon' is unknown"):
        reader("texts", tmp_path, "--encoding=klingon")
