"""What is taken of a model's answer, and what is not."""

import json

import pytest
from chat_server import CAPTION, TAGS, answer, thing

from flavars_jax.ground_captions.answers import Invalid, check
from flavars_jax.ground_captions.pictures import Picture
from flavars_jax.ground_captions.rows import Row

ROW = Row("r", {"path": "r.png"}, "A house.", TAGS)
PICTURE = Picture(b"", "image/png", 256, 128, 64, 32)


def judge(content, *, row=ROW, units="pixels", longest=400):
    return check(content, row, PICTURE, units=units, longest=longest)


def test_a_good_answer_is_in_pixels_of_the_original():
    found = judge(answer(objects=[thing("Small  House", TAGS[0], (0, 32, 256, 128))]))
    assert found.caption == CAPTION
    assert found.phrases == ("small house",)  # as the caption has it
    assert found.tags == (TAGS[0],)
    assert found.boxes == ((0, 8, 64, 32),)


@pytest.mark.parametrize(
    ("units", "box"),
    [
        ("pixels", (64, 0, 128, 64)),
        ("thousandths", (250, 0, 500, 500)),
        ("fractions", (0.25, 0, 0.5, 0.5)),
    ],
)
def test_boxes_in_other_units(units, box):
    found = judge(answer(objects=[thing("house", TAGS[0], box)]), units=units)
    assert found.boxes == ((16, 0, 32, 16),)


def test_an_answer_in_a_fence_and_one_without_objects():
    assert judge(f"```json\n{answer()}\n```").caption == CAPTION
    assert judge(answer(objects=[])).boxes == ()


BARE = json.dumps(
    {"caption": CAPTION, "objects": [{"phrase": "house", "tag": TAGS[0], "box": [1, 2, 3, 4]}]}
)


def one(*args):
    return answer(objects=[thing(*args)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Here is a house", "answer is not JSON"),
        (answer()[:-5], "answer is not JSON"),
        ("[" * 100_000, "answer is not JSON"),
        ("[1]", "answer is no JSON object"),
        ('{"objects": []}', "caption is no text"),
        (answer(caption=" \n"), "caption is empty"),
        (answer(caption="x" * 401), "caption is too long"),
        (answer(caption="a house\0"), "caption has control characters"),
        (json.dumps({"caption": "a", "objects": {"a": 1}}), "objects are no list of objects"),
        (json.dumps({"caption": "a", "objects": [1]}), "objects are no list of objects"),
        (answer(objects=[thing("house", TAGS[0])] * 65), "too many objects"),
        (answer(objects=[thing("house", TAGS[0])] * 2), "an object is there twice"),
        (one("a tower", TAGS[0]), "phrase is not in the caption"),
        (one("ous", TAGS[0]), "phrase is not in the caption"),
        (one(" ", TAGS[0]), "phrase is empty"),
        (one(7, TAGS[0]), "phrase is empty"),
        (one("house", "building=church"), "tag is unknown"),
        (one("house", ""), "tag is unknown"),
        (one("house", TAGS[0], (0, 0, 257, 10)), "box is outside of the image"),
        (one("house", TAGS[0], (0, 0, 10, 129)), "box is outside of the image"),
        (one("house", TAGS[0], (-1, 0, 10, 10)), "box is outside of the image"),
        (one("house", TAGS[0], (float("nan"), 0, 10, 10)), "box is outside of the image"),
        (one("house", TAGS[0], (10, 0, 10, 10)), "box is empty"),
        (one("house", TAGS[0], (20, 0, 10, 10)), "box is empty"),
        (one("house", TAGS[0], ("a", 0, 10, 10)), "box is not four numbers"),
        (BARE, "box is not four numbers"),
    ],
)
def test_what_is_wrong_is_named(content, reason):
    with pytest.raises(Invalid) as found:
        judge(content)
    assert found.value.reason == reason


def test_without_known_tags_only_the_empty_one_is_taken():
    bare = Row("r", {}, "A house.")
    assert judge(one("house", ""), row=bare).tags == ("",)
    with pytest.raises(Invalid, match="tag is unknown"):
        judge(one("house", TAGS[0]), row=bare)
