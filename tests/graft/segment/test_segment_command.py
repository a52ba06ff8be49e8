"""`python -m graft_jax.segment` from picture or scene to files, and what it says of bad input."""

import os
import sys

import made_scenes as made
import numpy as np
import pytest
import rasterio
from colours_model import ColoursModel
from PIL import Image

from graft_jax.map import classes
from graft_jax.segment import segment
from graft_jax.segment.__main__ import run
from graft_jax.segment.regions import superpixels
from rsvl_jax.runtime import exit_status

WORDS = ("red", "green", "blue")


def command(source, output, *flags, words=WORDS):
    asked = [f"--query={word}" for word in words]
    argv = ["--workdir=none", f"--input={source}", f"--output={output}", *asked, *flags]
    run(argv, lambda workdir: ColoursModel())


def proposals(refine):
    """The regions of a command, without which there is nothing to test."""
    if refine == "none":
        return None
    pytest.importorskip("skimage")
    return superpixels(8)


def refused(capsys, source, output, *flags, **changes):
    """Exit status 2, one line, and nothing written; the line."""
    before = sorted(os.listdir(output.parent))
    assert exit_status(lambda: command(source, output, *flags, **changes)) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ") and "\n" not in line
    assert sorted(os.listdir(output.parent)) == before
    return line


@pytest.fixture
def pixels():
    found = made.plain((200, 30, 30), 70, 90)
    found[:, 40:] = (30, 200, 30)
    return found


@pytest.fixture
def picture(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


@pytest.fixture
def output(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "labels.png"


@pytest.mark.parametrize("refine", ["none", "superpixels"])
def test_a_picture_is_labelled(picture, pixels, output, capsys, refine):
    regions = proposals(refine)
    command(picture, output, f"--refine={refine}")
    assert "6,300 pixels" in capsys.readouterr().out
    assert sorted(os.listdir(output.parent)) == ["labels.png", "labels_overlay.png"]
    model = ColoursModel()
    wanted = segment(model, pixels, model.texts(list(WORDS)), regions=regions).labels
    with Image.open(output) as file:
        assert file.mode == "P"
        np.testing.assert_array_equal(np.asarray(file), wanted)
        assert [file.text[f"class_{n}"] for n in range(3)] == list(WORDS)
        assert file.text["model"] == "colours-1" and file.text["threshold"] == "none"
        assert refine in file.text["refine"]
        shown = np.asarray(file.convert("RGB"))
    table = classes.colours(WORDS, None)
    assert tuple(shown[5, 5]) == table[0][:3] and tuple(shown[5, 80]) == table[1][:3]
    with Image.open(output.parent / "labels_overlay.png") as view:
        assert min(view.size) > 300


def test_transparent_pixels_have_no_label(tmp_path, pixels, output):
    alpha = np.full((70, 90, 1), 255, np.uint8)
    alpha[:, 60:] = 0
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(tmp_path / "a.png")
    command(tmp_path / "a.png", output)
    with Image.open(output) as file:
        assert (np.asarray(file)[:, 60:] == 255).all() and (np.asarray(file)[:, :60] < 3).all()
        assert (np.asarray(file.convert("RGBA"))[:, 60:, 3] == 0).all()


def test_a_jpeg_in_grey_is_a_picture(tmp_path, output):
    Image.fromarray(np.full((40, 50), 250, np.uint8)).save(tmp_path / "g.jpg")
    command(tmp_path / "g.jpg", output, words=("black", "white"))
    with Image.open(output) as file:
        assert (np.asarray(file) == 1).all()


@pytest.mark.parametrize("refine", ["none", "superpixels"])
def test_a_scene_keeps_its_place(tmp_path, pixels, output, refine):
    regions = proposals(refine)
    source = made.write(tmp_path / "s.tif", pixels, nodata=200)
    target = output.with_suffix(".tif")
    command(source, target, f"--refine={refine}", "--threshold=0.5")
    with rasterio.open(target) as file:
        found, tags = file.read(1), file.tags()
        assert file.crs == made.UTM and file.transform == made.CORNER and file.nodata == 255
    model = ColoursModel()
    with rasterio.open(source) as file:
        valid = file.read_masks().any(axis=0)
    vectors = model.texts(list(WORDS))
    wanted = segment(model, pixels, vectors, valid=valid, regions=regions, threshold=0.5).labels
    np.testing.assert_array_equal(found, wanted)
    assert tags["class_3"] == "none of these" and refine in tags["refine"]
    assert sorted(os.listdir(output.parent)) == ["labels.png", "labels.tif"]


@pytest.mark.parametrize(
    ("flags", "words", "said"),
    [
        ((), (), "no query"),
        ((), ("red",), "2 to 254"),
        ((), ("red", " "), "query ' ' is empty"),
        (("--threshold=7",), WORDS, "no cosine"),
        (("--refine=crf",), WORDS, "'crf'"),
        (("--refine=sam",), WORDS, "needs --sam"),
        (("--sam=x",), WORDS, "for --refine=sam"),
        (("--superpixel=9",), WORDS, "for --refine=superpixels"),
        (("--refine=superpixels", "--superpixel=1"), WORDS, "superpixels of 1"),
        (("--gsd=10",), WORDS, "has no ground"),
        (("--template=photo",), WORDS, "{c}"),
        (("--overlap=1",), WORDS, "overlap 1"),
    ],
)
def test_flags_that_cannot_be_meant(picture, output, capsys, flags, words, said):
    assert said in refused(capsys, picture, output, *flags, words=words)


def test_pictures_that_cannot_serve(tmp_path, picture, output, capsys):
    assert "missing.png" in refused(capsys, tmp_path / "missing.png", output)
    data = picture.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    assert "cut.png" in refused(capsys, tmp_path / "cut.png", output)
    (tmp_path / "text.jpg").write_text("no picture")
    assert "text.jpg" in refused(capsys, tmp_path / "text.jpg", output)
    Image.fromarray(np.zeros((20, 90), np.uint8)).save(tmp_path / "small.png")
    assert "90 x 20 pixels" in refused(capsys, tmp_path / "small.png", output)
    Image.fromarray(np.full((40, 40), 999, np.uint16)).save(tmp_path / "deep.png")
    assert "more than 8 bits" in refused(capsys, tmp_path / "deep.png", output)
    Image.fromarray(np.zeros((40, 40, 4), np.uint8)).save(tmp_path / "clear.png")
    assert "transparent everywhere" in refused(capsys, tmp_path / "clear.png", output)
    assert "must end so" in refused(capsys, picture, output.with_suffix(".tif"))
    assert "is the input" in refused(capsys, picture, picture)
    scene = made.write(tmp_path / "s.tif", made.plain((1, 2, 3), 64, 64))
    assert "must end in .tif" in refused(capsys, scene, output)


def test_what_is_not_installed_is_named(picture, output, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    assert "rsvl-jax[segment]" in refused(capsys, picture, output, "--refine=superpixels")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "rsvl-jax[sam]" in refused(capsys, picture, output, "--refine=sam", "--sam=x")
