"""Boxes and phrases of a sample: they go with the image, or are masked."""

import cv2
import numpy as np
import pytest
from tiny_records import TinySource, captions

from rsvl_jax.data.pairs import ImagePart, RegionPart, SampleTransform, TextPart, caption_id
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, train_tokenizer
from rsvl_jax.data.transforms import Augmentation
from rsvl_jax.errors import UserError

PHRASES = ["a red thing in the north-west", "a blue thing"]
BOXES = np.array([[0, 0, 8, 4], [20, 16, 28, 30]], np.float32)
COLOURS = ((255, 0, 0), (0, 0, 255))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("regions") / "tokenizer.model")
    train_tokenizer(captions(), path, 300)
    return SentencePieceTokenizer(path)


def record(phrases=PHRASES, boxes=BOXES):
    image = np.zeros((32, 32, 3), np.uint8)
    for (left, top, right, bottom), colour in zip(BOXES.astype(int), COLOURS, strict=True):
        image[top:bottom, left:right] = colour
    png = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    return {"id": "r", "image": png, "captions": ["A."], "phrases": phrases, "boxes": boxes}


def turned(tokenizer, count=4, **how):
    part = RegionPart(tokenizer, count, 12)
    return SampleTransform(image=ImagePart(Augmentation(32, **how), 8), regions=part)


def test_boxes_lie_on_what_they_name_however_the_image_is_turned(tokenizer):
    transform = turned(tokenizer, flip_horizontal=True, flip_vertical=True, rotate=True)
    ways = set()
    for seed in range(24):
        sample = transform(record(), np.random.default_rng(seed))
        assert sample["region_mask"].tolist() == [True, True, False, False]
        for box, colour in zip(sample["region_boxes"], COLOURS, strict=False):
            left, top, right, bottom = box.astype(int)
            assert (sample["image"][top:bottom, left:right] == colour).all()
        west, north = (sample["region_boxes"][0].reshape(2, 2).mean(0) < 16).tolist()
        way = f"{'north' if north else 'south'}-{'west' if west else 'east'}"
        assert sample["region_id"][0] == caption_id(f"a red thing in the {way}")
        words = tokenizer.encode(f"a red thing in the {way}", 12)
        np.testing.assert_array_equal(sample["region_text"][0], words[0])
        np.testing.assert_array_equal(sample["region_text_mask"][0], words[1])
        ways.add(way)
    assert len(ways) == 4


def test_what_a_crop_leaves_nothing_of_is_masked(tokenizer):
    counts = set()
    for seed in range(40):
        sample = turned(tokenizer, crop_scale=(0.2, 0.4))(record(), np.random.default_rng(seed))
        there = sample["region_mask"]
        sizes = sample["region_boxes"][:, 2:] - sample["region_boxes"][:, :2]
        assert (sizes[there] >= 1).all() and (sizes[~there] == 0).all()
        assert sample["region_boxes"].max() <= 32
        counts.add(int(there.sum()))
    assert counts == {0, 1, 2}


def test_of_too_many_some_are_drawn_and_none_is_fine(tokenizer):
    many = record([f"thing {i}" for i in range(6)], np.tile(BOXES, (3, 1)))
    known = {caption_id(phrase) for phrase in many["phrases"]}
    seen = set()
    for seed in range(30):
        sample = turned(tokenizer, count=2)(many, np.random.default_rng(seed))
        assert sample["region_mask"].all() and len(set(sample["region_id"])) == 2
        seen |= set(sample["region_id"].tolist())
    assert seen == known
    none = turned(tokenizer)(record([], np.zeros((0, 4), np.float32)), np.random.default_rng(0))
    assert not none["region_mask"].any()
    assert none["region_text_mask"].sum(1).tolist() == [2] * 4  # attention has something to read


def test_the_rest_of_a_sample_is_as_without_them(tokenizer):
    image = ImagePart(Augmentation(32, (0.5, 1.0), rotate=True), 8, mask_count=4)
    text = TextPart(tokenizer, 12, 3, swap_probability=0.5, others=TinySource())
    many = record([f"thing {i}" for i in range(6)], np.tile(BOXES, (3, 1)))
    plain = SampleTransform(image, text)(many, np.random.default_rng(3))
    more = SampleTransform(image, text, regions=RegionPart(tokenizer, 2, 12))(
        many, np.random.default_rng(3)
    )
    for name, value in plain.items():
        np.testing.assert_array_equal(more[name], value, err_msg=name)


def test_records_without_boxes_are_named(tokenizer):
    with pytest.raises(UserError, match="record 'tile-0' has no boxes of phrases"):
        turned(tokenizer)(TinySource()[0], np.random.default_rng(0))
    with pytest.raises(UserError, match="regions need the image"):
        SampleTransform(regions=RegionPart(tokenizer, 4, 12))
