"""RSVQA, low and high resolution, as published on Zenodo: three JSON files a split, and images.

    LR_split_test_images.json, LR_split_test_questions.json, LR_split_test_answers.json
    USGS_split_test_images.json, ... (high resolution; a second test split is "test_phili")
    Images_LR/ or Data/ with ID.tif (or .png, .jpg)

Entries that are not active belong to other splits and are passed over.
"""

import glob
import json
import os
from collections import Counter
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets.collection import Collection, Question
from rsvl_jax.evaluation_sets.pictures import RULES, SUFFIXES, Pictures

_PARTS = ("images", "questions", "answers")


def is_there(root: str) -> bool:
    """Whether a folder is of this layout."""
    return bool(glob.glob(os.path.join(glob.escape(root), "*_split_*_questions.json")))


def read(name: str, root: str, split: str) -> Collection:
    """A split: "train", "val", "test" or, of high resolution, "test_phili".

    Raises UserError, one line, for a file, an image or an answer that is missing.
    """
    images, questions, answers = (_entries(root, split, part) for part in _PARTS)
    places = _places(root)
    rows: dict[int, int] = {}
    names: list[str] = []
    for number in images:
        rows[number] = len(names)
        names.append(_place(places.get(str(number), []), number, root))
    about = {
        number: _field(entry, "img_id", "question", root) for number, entry in questions.items()
    }
    asked = tuple(
        _question(entry, rows[about[number]], answers, root)
        for number, entry in questions.items()
        if about[number] in rows
    )
    if not asked:
        raise UserError(f"{root!r}: no question of the split {split!r} is about one of its images")
    return Collection(
        name=name,
        split=split,
        ids=tuple(names),
        images=Pictures(root, names),
        questions=asked,
        dropped=_dropped(len(questions) - len(asked)),
        protocol={"split_rule": f"*_split_{split}_*.json", "pixels": RULES},
    )


def _dropped(count: int) -> dict[str, int]:
    return {"questions about images of another split": count} if count else {}


def _place(found: list[str], number: int, root: str) -> str:
    if not found:
        raise UserError(f"{root!r} has no image {number} ({', '.join(SUFFIXES)})")
    if len(found) > 1:
        raise UserError(
            f"{root!r} has several images {number}: {', '.join(sorted(found))}: leave only those "
            "of this data set"
        )
    return found[0]


def _question(
    entry: dict[str, Any], row: int, answers: dict[int, dict[str, Any]], root: str
) -> Question:
    known = [answers[number] for number in entry.get("answers_ids") or [] if number in answers]
    if not known:
        raise UserError(f"{root!r}: the question {entry['id']} has no answer in the answers file")
    return Question(
        image=row,
        text=str(_field(entry, "question", "question", root)),
        answer=str(_field(known[0], "answer", "answer", root)),
        kind=str(_field(entry, "type", "question", root)),
        id=str(entry["id"]),
    )


def _field(entry: dict[str, Any], name: str, what: str, root: str) -> Any:
    """Raises UserError where an entry lacks it, or it is empty."""
    if entry.get(name) in (None, ""):
        raise UserError(f"{root!r}: the {what} {entry['id']} has no {name!r}")
    return entry[name]


def _entries(root: str, split: str, part: str) -> dict[int, dict[str, Any]]:
    """The active entries of a file by their id."""
    pattern = os.path.join(glob.escape(root), f"*_split_{split}_{part}.json")
    found = sorted(glob.glob(pattern))
    if len(found) != 1:
        there = sorted(map(os.path.basename, glob.glob(os.path.join(glob.escape(root), "*.json"))))
        raise UserError(
            f"{root!r} has {len(found)} files *_split_{split}_{part}.json; there are: "
            f"{', '.join(there) or 'none'}"
        )
    try:
        with open(found[0], encoding="utf-8") as file:
            entries = json.load(file)[part]
        active = [(int(entry["id"]), entry) for entry in entries if entry["active"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{found[0]!r} is no file of {part} ({error!r})") from error
    numbers = Counter(number for number, _ in active)
    twice = [number for number, count in numbers.items() if count > 1]
    if twice:
        raise UserError(f"{found[0]!r} has the id {twice[0]} twice: get the file anew")
    return dict(active)


def _places(root: str) -> dict[str, list[str]]:
    """Paths below `root` of images by the stem of their names."""
    found: dict[str, list[str]] = {}
    for parent, _, names in os.walk(root):
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() in SUFFIXES:
                found.setdefault(stem, []).append(os.path.relpath(os.path.join(parent, name), root))
    return found
