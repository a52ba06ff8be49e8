"""RSVQA's files: read, counted, scored; and each broken one gives one line."""

import json
import warnings

import pytest
from made_sets import image

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import vqa as scoring
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation_sets.opening import open_collection


def write(root, split="test", prefix="LR", images=(0, 3), questions=None):
    """questions: (id, image, kind, text, answer)."""
    questions = questions or [
        (0, 0, "presence", "Is there a road?", "yes"),
        (1, 0, "count", "How many buildings are there?", "7"),
        (2, 3, "rural_urban", "Is it a rural or an urban area", "rural"),
    ]
    root.mkdir(exist_ok=True)
    content = {
        "images": [{"id": n, "active": True, "questions_ids": []} for n in images]
        + [{"id": 99, "active": False}],
        "questions": [
            {
                "id": q,
                "img_id": i,
                "type": k,
                "question": t,
                "answers_ids": [q + 10],
                "active": True,
            }
            for q, i, k, t, _ in questions
        ],
        "answers": [{"id": q + 10, "answer": a, "active": True} for q, *_, a in questions],
    }
    for part, entries in content.items():
        (root / f"{prefix}_split_{split}_{part}.json").write_text(json.dumps({part: entries}))
    for n in images:
        image(root / "Images_LR" / f"{n}.tif")
    return root


def test_a_split_is_read(tmp_path):
    root = write(tmp_path / "rsvqa_lr")
    found = open_collection("rsvqa_lr", str(root), "test")
    assert [q.image for q in found.questions] == [0, 0, 1]
    assert found.questions[1].kind == "count" and found.questions[1].answer == "7"
    assert found.ids == ("Images_LR/0.tif", "Images_LR/3.tif")
    assert found.images[1].shape == (8, 8, 3)
    other = write(tmp_path / "hr", split="test_phili", prefix="USGS")
    assert len(open_collection("rsvqa_hr", str(other), "test_phili").questions) == 3


def test_questions_about_other_images_are_counted(tmp_path):
    more = [(0, 0, "count", "How many roads?", "1"), (1, 8, "count", "How many roads?", "2")]
    found = open_collection("v", str(write(tmp_path / "v", questions=more)), "test")
    assert found.dropped == {"questions about images of another split": 1}


def test_what_is_broken_gets_one_line(tmp_path):
    root = write(tmp_path / "v")
    for change, what in (
        (lambda: None, "0 files .*_split_val_images.json; there are: LR_split_test"),
        (lambda: (root / "Images_LR" / "3.tif").unlink(), "has no image 3"),
        (lambda: (root / "LR_split_test_answers.json").write_text("{}"), "is no file of answers"),
    ):
        change()
        with pytest.raises(UserError, match=what) as error:
            open_collection("v", str(root), "val" if "val" in what else "test")
        assert "\n" not in str(error.value)
    root = write(tmp_path / "w")
    content = json.loads((root / "LR_split_test_answers.json").read_text())
    content["answers"].pop()
    (root / "LR_split_test_answers.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="the question 2 has no answer"):
        open_collection("w", str(root), "test")


def edit(root, part, change):
    path = root / f"LR_split_test_{part}.json"
    content = json.loads(path.read_text())
    change(content[part])
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("part", "change", "what"),
    [
        ("questions", lambda q: q[0].pop("type"), "the question 0 has no 'type'"),
        ("questions", lambda q: q[0].pop("img_id"), "the question 0 has no 'img_id'"),
        ("questions", lambda q: q[1].update(question=""), "the question 1 has no 'question'"),
        ("questions", lambda q: q[0].update(answers_ids=None), "question 0 has no answer"),
        ("questions", lambda q: q[0].pop("active"), "is no file of questions .*'active'"),
        ("questions", lambda q: q.append(q[2]), "test_questions.json' has the id 2 twice"),
        ("questions", lambda q: [e.update(active=False) for e in q], "no question of the split"),
        ("answers", lambda a: a[1].pop("answer"), "the answer 11 has no 'answer'"),
        ("images", lambda i: i.append(i[0]), "test_images.json' has the id 0 twice"),
    ],
)
def test_broken_entries_get_one_line(tmp_path, part, change, what):
    root = write(tmp_path / "v")
    edit(root, part, change)
    with pytest.raises(UserError, match=what) as error:
        open_collection("v", str(root), "test")
    assert "\n" not in str(error.value)


def test_images_that_are_there_twice_or_damaged(tmp_path):
    root = write(tmp_path / "v")
    whole = (root / "Images_LR" / "3.tif").read_bytes()
    (root / "Images_LR" / "3.tif").write_bytes(whole[:40])
    found = open_collection("v", str(root), "test")
    with pytest.raises(UserError, match="3.tif' cannot be decoded"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of the damage
        found.images[1]
    (root / "Images_HR").mkdir()
    (root / "Images_HR" / "0.png").write_bytes(whole)
    with pytest.raises(UserError, match="several images 0: Images_HR/0.png, Images_LR/0.tif"):
        open_collection("v", str(root), "test")


def test_accuracies_by_kind(tmp_path):
    found = open_collection("v", str(write(tmp_path / "v")), "test")
    card = Card("vqa", "")
    cards = {c.metric: c for c in scoring.cards(card, found, ["yes", "12", ""])}
    assert cards["accuracy"].value == pytest.approx(100 / 3)
    assert cards["average_accuracy"].per_class == {"count": 0, "presence": 100, "rural_urban": 0}
    assert cards["average_accuracy"].value == pytest.approx(100 / 3)
    assert cards["accuracy"].note.startswith("1 of 3 questions were not understood")
    # Counts in buckets: 7 and 9 are the same answer.
    lr = scoring.cards(card, found, ["no", "between 0 and 10", "rural"], bucket_counts=True)
    assert {c.metric: c.value for c in lr}["accuracy"] == pytest.approx(200 / 3)
