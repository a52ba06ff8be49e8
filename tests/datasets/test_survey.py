"""What is counted of a data set, by records of which it is known."""

import json

import numpy as np
import pytest
from made_downloads import SkyScript, picture

from rsvl_jax import datasets
from rsvl_jax.datasets import survey
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.datasets.survey import Survey
from rsvl_jax.errors import UserError

MANIFEST = {"classes": ["farm", "river"], "splits": {"train": 4}}


def record(number, **changes):
    given = {
        "id": f"r{number}",
        "image": picture(number, (40 + number, 30)),
        "captions": [f"The river and THE  farm {number}", "a river"],
        "lon": 10.0 + number,
        "lat": float("nan") if number == 2 else 5.0,
        "tags": json.dumps({"center": {"building": "yes"}, "around": [{"highway": "x"}] * number}),
        "label": number % 2,
        "boxes": np.zeros((number, 4), np.float32),
    }
    return given | changes


def test_counts():
    found = Survey(MANIFEST)
    for number in range(3):
        found.add("train", number, record(number))
    found.add("train", 3, record(3, image=picture(1, (41, 30)), captions=[], lon=float("nan")))
    assert found.read == {"train": 4}
    assert found.sizes == {(40, 30): 1, (41, 30): 2, (42, 30): 1}
    assert found.lengths == {6: 3, 2: 3} and found.captions_each == {2: 3, 0: 1}
    assert found.words.most_common() == [("river", 6), ("farm", 3)]  # no "the", once a caption
    assert found.tags == {"building=yes": 4, "highway=x": 3}
    assert found.labels == {"farm": 2, "river": 2} and found.boxed == 3
    assert [lon for lon, _ in found.places["train"]] == [10.0, 11.0, 12.0]
    assert found.repeated == [("a river", 3)]
    assert found.alike == [[("train", 1), ("train", 3)]]


def test_pictures_of_another_quality_look_alike():
    found = Survey(MANIFEST)
    for number, image in enumerate((picture(1), picture(2), picture(1, quality=90), picture(3))):
        found.add("train", number, record(number, image=image))
    assert found.alike == [[("train", 0), ("train", 2)]]


def test_images_that_cannot_be_read_are_told():
    found = Survey(MANIFEST)
    found.add("train", 0, record(0, image=b"<html>"))
    found.add("train", 1, record(1, image=b""))  # of a set of texts alone
    assert found.unreadable == ["r0"] and not found.sizes


def test_a_share_of_every_split_is_read(tmp_path):
    source = SkyScript(tmp_path / "in").write()
    where = [f"--source={source}", "--name=sky", f"--data_dir={tmp_path}"]
    run(["build", "skyscript", *where, "--workers=1", "--vocabulary=300"])
    whole = survey.survey("image_text/sky", str(tmp_path), 1000)
    assert whole.read == datasets.manifest("image_text/sky", str(tmp_path))["splits"]
    assert sum(whole.tags[tag] for tag in whole.tags if tag.startswith("building=")) == 24
    assert whole.tags["highway=residential"] == 24
    part = survey.survey("image_text/sky", str(tmp_path), 12)
    assert part.read == {"train": 8, "validation": 2, "test": 2}
    with pytest.raises(UserError, match="no data set 'image_text/none'"):
        survey.survey("image_text/none", str(tmp_path), 10)


def test_spaced_numbers():
    assert survey.spaced(10, 50).tolist() == list(range(10))
    assert survey.spaced(1000, 50)[[0, -1]].tolist() == [0, 999]
    assert len(survey.spaced(1000, 50)) == 50
