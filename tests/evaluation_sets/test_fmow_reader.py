"""fMoW-rgb in small: split / class / place / image, with a JSON beside each."""

import json

import numpy as np
import pytest
from made_sets import image
from PIL import Image

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets.opening import Options, open_collection


@pytest.fixture
def root(tmp_path):
    for split, name, place, number in (
        ("train", "airport", 0, 0), ("train", "airport", 0, 1), ("train", "zoo", 3, 0),
        ("val", "multi-unit_residential", 0, 0), ("val", "zoo", 7, 2),
    ):  # fmt: skip
        own = tmp_path / split / name / f"{name}_{place}" / f"{name}_{place}_{number}"
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[5:9, 10:16] = 200
        own.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(f"{own}_rgb.jpg", quality=100, subsampling=0)
        box = {"bounding_boxes": [{"category": name, "box": [10, 5, 6, 4]}], "gsd": 0.5}
        own.with_name(f"{own.name}_rgb.json").write_text(json.dumps(box))
        image(own.with_name(f"{own.name}_msrgb.jpg"))
    return tmp_path


def test_a_split_is_read(root):
    found = open_collection("fmow", str(root), "val")
    assert [found.classes[label] for label in found.labels] == ["multi-unit_residential", "zoo"]
    assert found.ids[1] == "val/zoo/zoo_7/zoo_7_2_rgb.jpg"
    assert found.images[0].shape == (20, 30, 3)
    train = open_collection("fmow", str(root), "train")
    assert train.labels.tolist() == [0, 0, 61] and train.blocks.tolist() == [0, 0, 1]
    assert len(open_collection("fmow", str(root), "all")) == 5


def test_objects_are_cut_out(root):
    found = open_collection("fmow", str(root), "val", Options(crop=True))
    assert found.images[0].shape == (4, 6, 3)
    assert (np.abs(found.images[0].astype(int) - 200) < 20).all()
    assert found.protocol["images"] == "cut to the object's box"


def test_what_is_broken(root):
    def refused(what, split="val"):
        with pytest.raises(UserError, match=what) as error:
            found = open_collection("fmow", str(root), split, Options(crop=True))
            for row in range(len(found)):
                found.images[row]
        assert "\n" not in str(error.value)

    beside = root / "val" / "zoo" / "zoo_7" / "zoo_7_2_rgb.json"
    beside.write_text(json.dumps({"bounding_boxes": [{"box": [40, 5, 6, 4]}]}))
    refused("the box lies outside of the image")
    beside.write_text(json.dumps({"bounding_boxes": []}))
    refused("has no 'bounding_boxes'")
    beside.unlink()
    refused("zoo_7_2_rgb.jpg' has no zoo_7_2_rgb.json beside it")
    image(root / "test" / "0001" / "0001_0_rgb.jpg")
    refused("is not in test/CLASS/CLASS_0: the mapping file", "test")
    image(root / "val" / "volcano" / "volcano_0" / "volcano_0_0_rgb.jpg")
    refused("the folder 'volcano' is no class")
    with pytest.raises(UserError, match="has no val/CLASS/CLASS_0/CLASS_0_0_rgb.jpg"):
        open_collection("fmow", str(root / "val"), "val")
