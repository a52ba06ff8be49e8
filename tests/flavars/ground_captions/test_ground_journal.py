"""Answers on disk: whole after any kill, and of one kind."""

import json

import pytest

from flavars_jax.ground_captions.journal import History, Journal, read
from rsvl_jax.errors import UserError

SOURCE = {"model": "m", "prompt": "p", "sides": (1, 2)}


def test_what_is_added_is_there_again(tmp_path):
    folder = str(tmp_path / "a")
    with Journal(folder, SOURCE) as journal:
        journal.add([("journal", {"id": "é", "cost": 0.5}), ("failed", {"id": "b", "cost": 0.25})])
        journal.add([("invalid", {"id": "c\ud800"}), ("journal", {"id": "d"})])
    assert [line["id"] for line in read(f"{folder}/journal.jsonl")] == ["é", "d"]
    history = History.of(folder)
    assert history.spent == 0.75
    assert history.done == {"é", "c?", "d"}  # what failed is asked about again
    assert History.of(str(tmp_path / "none")) == History(frozenset(), 0.0)


@pytest.mark.parametrize("kept", range(1, 22))
def test_a_torn_last_line_is_taken_back(tmp_path, kept):
    folder = str(tmp_path)
    with Journal(folder, SOURCE) as journal:
        journal.add([("journal", {"id": "x" * 70_000})])
    path = tmp_path / "journal.jsonl"
    whole, line = path.read_bytes(), b'{"id": "second\xc3\xa9 one"}'
    assert len(line) == 22
    path.write_bytes(whole + line[:kept])
    with Journal(folder, SOURCE) as journal:
        assert journal.torn == 1
        journal.add([("journal", {"id": "third"})])
    assert [entry["id"] for entry in read(str(path))] == ["x" * 70_000, "third"]


def test_a_whole_last_line_without_its_end_is_kept(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"id": "a"}')
    with Journal(str(tmp_path), SOURCE) as journal:
        journal.add([("journal", {"id": "b"})])
    assert [line["id"] for line in read(str(tmp_path / "journal.jsonl"))] == ["a", "b"]


def test_a_broken_line_inside_is_refused(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"id": "a"}\nnonsense\n{"id": "b"}\n')
    with pytest.raises(UserError, match="line 2, is no JSON object"):
        list(read(str(tmp_path / "journal.jsonl")))


def test_two_at_once_and_answers_of_another_kind_are_refused(tmp_path):
    folder = str(tmp_path)
    with Journal(folder, SOURCE), pytest.raises(UserError, match="written by another process"):
        Journal(folder, SOURCE)
    with Journal(folder, SOURCE):
        pass
    with pytest.raises(UserError, match="another model .there 'm', here 'n'"):
        Journal(folder, SOURCE | {"model": "n"})
    with Journal(folder, SOURCE):  # the refusal let go of the lock
        pass
    assert json.loads((tmp_path / "source.json").read_text())["sides"] == [1, 2]
