"""Every layout: a small copy is read and counted; every broken one gives one clear line."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_sets import encoded, folders, image, karpathy, tar, tif
from PIL import Image
from scipy.io import savemat

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import known
from rsvl_jax.evaluation_sets.__main__ import run
from rsvl_jax.evaluation_sets.opening import Options, open_collection

EUROSAT = known.find("eurosat").classes


def refused(what: str, *arguments, **options):
    with pytest.raises(UserError) as error:
        found = open_collection(*arguments, Options(**options))
        if found.masks is not None:
            found.masks[0]
        for row in range(len(found)):
            found.images[row]
    text = str(error.value)
    assert re.search(what, text), text
    assert "\n" not in text


def test_the_table_is_whole():
    sizes = {name: len(of.classes) for name, of in known.table().items()}
    assert sizes["resisc45"] == 45 and sizes["fmow"] == 62 and sizes["millionaid"] == 51
    for of in known.table().values():
        assert len(set(of.classes)) == len(of.classes)
        for spelling in of.spellings.values():
            assert len(spelling) == len(of.classes)
    with pytest.raises(UserError, match="did you mean 'eurosat'"):
        known.find("eurosta")


def test_class_folders_with_published_lists(tmp_path):
    root = folders(tmp_path / "EuroSAT" / "2750", EUROSAT)
    wanted = ["River_2.jpg", "AnnualCrop_1.jpg"]
    (root / "eurosat-test.txt").write_text("\n".join(wanted))
    found = open_collection("eurosat", str(tmp_path / "EuroSAT"), "test")
    assert [name.split("/")[-1] for name in found.ids] == wanted
    assert found.labels.tolist() == [8, 0] and found.classes == EUROSAT
    assert found.images[0].shape == (8, 8, 3) and found.images[0].dtype == np.uint8
    assert found.protocol["split_rule"] == "torchgeo"
    assert "not the published 7ae5ab94" in found.protocol["split_list"]
    everything = open_collection("eurosat", str(root), "all")
    assert np.bincount(everything.labels).tolist() == [5] * 10
    refused("no list of the train split.*torchgeo", "eurosat", str(root), "train")
    refused(
        "no 'eurosat-spatial-test.txt'.*get it from", "eurosat", str(root), "test", rule="spatial"
    )


def test_lists_that_are_wrong(tmp_path):
    root = folders(tmp_path / "EuroSAT", EUROSAT)
    for text, what in (
        ("River_9.jpg", "lists 'River_9.jpg', which is not there .1 of 1 lines"),
        ("River_1.jpg\nRiver_1.jpg", "lists 'River/River_1.jpg' more than once"),
    ):
        (root / "eurosat-val.txt").write_text(text)
        refused(what, "eurosat", str(root), "val")
    refused("split rule 'chance'", "eurosat", str(root), "val", rule="chance")
    refused("split 'dev'", "eurosat", str(root), "dev")
    own = tmp_path / "mine.txt"
    own.write_text("River/River_3.jpg")
    found = open_collection("eurosat", str(root), "test", Options(rule=str(own)))
    assert found.ids == ("River/River_3.jpg",)


def test_lists_of_other_folders_and_published_ones(tmp_path, monkeypatch):
    root = folders(tmp_path / "AID", ("Airport", "Bare Land"))
    text = "data/AID/Airport/Airport_2.jpg\nBare Land/Bare Land_1.jpg\n"
    (root / "aid-test.txt").write_text(text)
    of = known.find("aid")
    md5 = hashlib.md5(text.encode()).hexdigest()[:8]
    same = replace(of, lists={"flavars": replace(of.lists["flavars"], md5={"test": md5})})
    monkeypatch.setattr(known, "table", lambda: {"aid": same})
    found = open_collection("aid", str(root), "test")
    assert found.ids == ("Airport/Airport_2.jpg", "Bare Land/Bare Land_1.jpg")
    assert found.protocol["split_list"] == f"md5 {md5}, as published"


def test_files_that_are_no_images_are_counted(tmp_path):
    root = folders(tmp_path / "mine", ("a", "b"), each=2)
    for name in ("._a_1.jpg", "Thumbs.db"):
        (root / "a" / name).write_bytes(b"x")
    found = open_collection("mine", str(root), "all")
    assert len(found) == 4 and found.dropped == {"files that are no images": 2}


def test_folders_of_splits(tmp_path):
    for split in ("train", "valid", "test"):
        folders(tmp_path / "set" / split, ("a", "b"), each=2)
    found = open_collection("mine", str(tmp_path / "set"), "val")
    assert len(found) == 4 and found.classes == ("a", "b")
    assert all(name.startswith("valid/") for name in found.ids)
    assert len(open_collection("mine", str(tmp_path / "set"), "all")) == 12


def test_four_fifths_by_name(tmp_path):
    root = folders(tmp_path / "mine", ("a", "b"), each=10)
    parts = [
        open_collection("mine", str(root), split, Options(rule="remoteclip"))
        for split in ("train", "test")
    ]
    assert [len(part) for part in parts] == [16, 4]
    assert not set(parts[0].ids) & set(parts[1].ids)
    # As text, _10 comes before _2: of a the last two are a_8 and a_9.
    assert parts[1].ids == ("a/a_8.jpg", "a/a_9.jpg", "b/b_8.jpg", "b/b_9.jpg")
    refused("no val", "mine", str(root), "val", rule="remoteclip")


def test_strange_folders(tmp_path):
    root = folders(tmp_path / "EuroSAT", (*EUROSAT, "Volcano"))
    refused("'Volcano' is no class of EuroSAT", "eurosat", str(root), "all")
    refused("no '.*nowhere'", "eurosat", str(tmp_path / "nowhere"), "all")
    (tmp_path / "empty" / "a").mkdir(parents=True)
    refused("has no images in folders", "mine", str(tmp_path / "empty"), "all", layout="folders")
    refused("layout 'zip'", "mine", str(root), "all", layout="zip")
    other = folders(tmp_path / "millionaid", ("bapsketball_court", "Bare Land"))
    found = open_collection("millionaid", str(other), "all")
    names = [found.classes[label] for label in np.unique(found.labels)]
    assert names == ["bare_land", "basketball_court"]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_other_modes_are_converted(tmp_path, mode):
    ending = "jpg" if mode == "CMYK" else "png"
    image(tmp_path / "mine" / "a" / f"x.{ending}", 1, mode=mode)
    found = open_collection("mine", str(tmp_path / "mine"), "all")
    assert found.images[0].shape == (8, 8, 3)


def test_images_that_cannot_be_shown(tmp_path):
    root = tmp_path / "mine"
    Image.new("I;16", (8, 8), 3000).save(image(root / "a" / "x.png"))
    refused("more than 8 bits or 4 bands: say which sensor", "mine", str(root), "all")
    whole = image(root / "a" / "x.png", size=(64, 64)).read_bytes()
    (root / "a" / "x.png").write_bytes(whole[: len(whole) // 2])
    refused("x.png' cannot be decoded", "mine", str(root), "all")
    (root / "a" / "x.png").write_bytes(b"<html>gone</html>")
    refused("x.png' cannot be decoded", "mine", str(root), "all")
    (root / "a" / "x.png").unlink()
    whole = image(root / "a" / "x.tif", size=(64, 64)).read_bytes()
    (root / "a" / "x.tif").write_bytes(whole[: len(whole) // 2])
    refused("x.tif' cannot be decoded", "mine", str(root), "all")


def test_thirteen_bands(tmp_path):
    for name in EUROSAT:
        tif(tmp_path / "EuroSAT" / name / f"{name}_1.tif", 13)
    found = open_collection("eurosat", str(tmp_path / "EuroSAT"), "all")
    # B04 is 1,800, B03 1,700, B02 1,600; white is a reflectance of 0.3, 3,000.
    assert found.images[0][0, 0].tolist() == [153, 144, 136]
    harmonised = open_collection("eurosat", str(tmp_path / "EuroSAT"), "all", Options(added=1000))
    assert harmonised.images[0][0, 0].tolist() == [68, 60, 51]
    tif(tmp_path / "EuroSAT" / "River" / "River_1.tif", 9)
    assert found.band_names[8:] == ("B09", "B10", "B11", "B12", "B8A")
    assert found.bands[0].dtype == np.float32
    assert found.bands[0][2, 3].tolist() == [1500.0 + 100 * band for band in range(13)]
    refused("a file of 9 bands", "eurosat", str(tmp_path / "EuroSAT"), "all")
    tif(tmp_path / "mine" / "a" / "a.tif", 13)
    refused("say which sensor", "mine", str(tmp_path / "mine"), "all")
    assert len(open_collection("mine", str(tmp_path / "mine"), "all", Options(sensor="sentinel2")))


def skyscript(root, rows):
    root.mkdir(exist_ok=True)
    (root / "classnames.txt").write_text("bare land\nstadium\n")
    lines = "\n".join(f"{path},{label}" for path, label in rows)
    (root / "AID_img_txt_pairs_test.csv").write_text(f"filepath,label\n{lines}\n")
    return str(root)


def test_skyscript_csv(tmp_path):
    for name in ("x.jpg", "y.jpg"):
        image(tmp_path / "images" / name)
    root = skyscript(tmp_path / "aid", [("images/x.jpg", "1"), ("images/y.jpg", "Bare Land")])
    found = open_collection("aid", root, "test")
    assert found.labels.tolist() == [1, 0] and found.classes == ("bare land", "stadium")
    assert found.images[1].shape == (8, 8, 3)
    refused("no .*_img_txt_pairs_train.csv, but AID_img", "aid", root, "train")
    skyscript(tmp_path / "aid", [("images/x.jpg", "7")])
    refused("label '7' is not in classnames.txt", "aid", root, "test")
    skyscript(tmp_path / "aid", [("images/x.jpg", "1"), ("images/x.jpg", "0")])
    refused("lists 'images/x.jpg' more than once", "aid", root, "test")
    skyscript(tmp_path / "aid", [("images/z.jpg", "1")])
    refused("neither below", "aid", root, "test")
    skyscript(tmp_path / "aid", [("images/x.jpg", "1"), ("images/z.jpg", "1")])
    refused("z.jpg' is not there", "aid", root, "test")


def test_karpathy_captions(tmp_path):
    entries = [("1.tif", "test", ["a b", " c "]), ("2.tif", "test", ["d"]), ("3.tif", "val", ["e"])]
    root = str(karpathy(tmp_path / "rsicd", "dataset_rsicd", entries))
    found = open_collection("rsicd", root, "test", Options(prefix="a satellite image. "))
    assert found.captions == (
        ("a satellite image. a b", "a satellite image. c"),
        ("a satellite image. d",),
    )
    assert found.images[0].shape == (8, 8, 3)
    refused("no image in the split 'train', but .'test', 'val'.", "rsicd", root, "train")
    karpathy(tmp_path / "a", "dataset", [("1.tif", "test", [" "])])
    refused("the image '1.tif' has no caption", "a", str(tmp_path / "a"), "test")
    karpathy(tmp_path / "b", "dataset", [("1.tif", "test", ["x"])] * 2)
    refused("has 'images/1.tif' more than once", "b", str(tmp_path / "b"), "test")
    karpathy(tmp_path / "c", "dataset", [("1.tif", "test", ["x"])])
    (tmp_path / "c" / "images" / "1.tif").unlink()
    refused("captions the image '1.tif', which is not there", "c", str(tmp_path / "c"), "test")
    (tmp_path / "c" / "dataset.json").write_text("{")
    refused("no JSON with a list 'images'", "c", str(tmp_path / "c"), "test")


def test_clip_benchmark_tars(tmp_path):
    root = tmp_path / "wds_eurosat"
    members = [("s0.png", encoded()), ("s0.cls", b"1"), ("s1.png", encoded()), ("s1.cls", b"0\n")]
    tar(root / "test" / "0.tar", members)
    (root / "classnames.txt").write_text("forest\nriver\n")
    found = open_collection("eurosat", str(root), "test")
    assert found.labels.tolist() == [1, 0] and found.classes == ("forest", "river")
    assert found.images[0][0, 0].tolist() == [90, 0, 0]
    refused("no train/0.tar; folders there: test", "eurosat", str(root), "train")
    tar(root / "test" / "0.tar", [("s0.png", encoded()), ("s0.json", b"{}")])
    refused("not every image has a .cls or a .txt; endings: .'json', 'png'", "e", str(root), "test")
    twice = [("s0.png", encoded()), ("s0.cls", b"1")] * 2
    tar(root / "test" / "0.tar", twice)
    refused("has s0.png once more", "e", str(root), "test")
    tar(root / "test" / "0.tar", [("s0.png", encoded()), ("s0.cls", b"2")])
    refused("s0.cls is 2, of 2 classes", "e", str(root), "test")
    captions = [("s0.png", encoded()), ("s0.txt", b"a port\na quay\n")]
    tar(tmp_path / "wds_rsicd" / "test" / "0.tar", captions)
    found = open_collection("rsicd", str(tmp_path / "wds_rsicd"), "test")
    assert found.captions == (("a port", "a quay"),) and found.labels is None
    whole = (root / "test" / "0.tar").read_bytes()
    (root / "test" / "0.tar").write_bytes(whole[:700])
    refused("is not a whole tar|cannot be decoded", "e", str(root), "test")


def test_sat_6(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (28, 28, 4, 9), np.uint8), np.eye(6)[rng.integers(0, 6, 9)].T
    path = str(tmp_path / "sat-6-full.mat")
    savemat(path, {"test_x": x, "test_y": y.astype(np.uint8)})
    found = open_collection("sat6", str(tmp_path), "test")
    assert found.labels.tolist() == y.argmax(axis=0).tolist()
    np.testing.assert_array_equal(found.images[3], x[..., :3, 3])
    np.testing.assert_array_equal(found.bands[3], x[..., 3].astype(np.float32))
    refused("has no 'train_x'", "sat6", path, "train")
    refused("splits train and test", "sat6", path, "val")
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
    refused("sat-6-full.mat' cannot be read", "sat6", path, "test")
    savemat(path, {"test_x": x[:, :, :3], "test_y": y})
    refused("four bands are wanted", "sat6", path, "test")


@pytest.mark.parametrize("of_matlab", [False, True])
def test_sat_4_in_hdf5(tmp_path, of_matlab):
    import h5py

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 255, (9, 28, 28, 4), np.uint8), np.eye(4)[rng.integers(0, 4, 9)]
    path = tmp_path / ("sat4.mat" if of_matlab else "sat4.h5")
    with h5py.File(path, "w", userblock_size=512 if of_matlab else 0) as file:
        file["train_x"] = x.transpose(0, 3, 2, 1) if of_matlab else x
        file["train_y"] = y
        file["test_x"], file["test_y"] = x, np.zeros_like(y)
    if of_matlab:  # its header: text, the version 2.0 and the order of bytes
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    found = open_collection("sat4", str(tmp_path), "train")
    np.testing.assert_array_equal(found.images[5], x[5, ..., :3])
    assert found.labels.tolist() == y.argmax(axis=1).tolist()
    refused("images of no class, or of several", "sat4", str(tmp_path), "test")
    path.write_bytes(path.read_bytes()[:900])
    refused("cannot be read", "sat4", str(path), "train")


def test_images_and_masks(tmp_path):
    root = tmp_path / "roads"
    for name in ("x", "y"):
        image(root / "images" / f"{name}.jpg")
        image(root / "masks" / f"{name}.png", 0 if name == "x" else 7, mode="L")
    (root / "classes.csv").write_text("0,ground\n7,road\n")
    found = open_collection("roads", str(root), "all")
    assert found.pixel_classes == ("ground", "road")
    assert [int(found.masks[row][0, 0]) for row in range(2)] == [0, 1]
    image(root / "masks" / "x.png", 255, mode="L")
    assert (open_collection("roads", str(root), "all").masks[0] == 255).all()
    image(root / "masks" / "x.png", 9, mode="L")
    refused("holds the value 9, which is no class", "roads", str(root), "all")
    image(root / "masks" / "x.png", 7, mode="RGB")
    refused("a mask has one value a pixel", "roads", str(root), "all")
    (root / "classes.csv").write_text("7,0,0,road\n0,0,0,ground\n")
    assert open_collection("roads", str(root), "all").masks[0][0, 0] == 0
    (root / "classes.csv").write_text("7,0,0,road\n0,ground\n")
    refused("values must differ, and all be numbers or all colours", "roads", str(root), "all")
    (root / "masks" / "x.png").unlink()
    refused("x.jpg' has no mask", "roads", str(root), "all")


def test_commands(tmp_path, capsys):
    run(["list"])
    assert "eurosat" in capsys.readouterr().out
    folders(tmp_path / "mine", ("a", "b"), each=2)
    image(tmp_path / "mine" / "a" / "a_1.jpg", mode="CMYK")
    run(["check", "mine", f"--data={tmp_path / 'mine'}", "--split=all"])
    said = capsys.readouterr().out
    assert "mine all: 4 images" in said and "8 x 8: 4" in said and "  b: 2" in said
    assert "modes: RGB: 3, CMYK: 1" in said
    tif(tmp_path / "s2" / "River" / "River_1.tif", 13)
    run(["check", "eurosat", f"--data={tmp_path / 's2'}", "--split=all"])
    assert "  B8A: mean 2700.00, deviation 0.00" in capsys.readouterr().out
