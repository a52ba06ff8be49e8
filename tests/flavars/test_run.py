"""The command itself: real processes on real tiles, finished, resumed, killed and refused."""

import json
import os
import signal

import made_suite
import pytest
from command_runs import Command, comparable_lines, last_step

STEPS = 12
# Tiny towers: what is tested is the run, not what it learns.
TINY = {
    "training.steps": STEPS,
    "data.name": "earth_tiles/mini",
    "data.batch_size": 16,
    "checkpoint.every_steps": 3,
    "metrics.every_steps": 1,
    "evaluation.every_steps": 6,
    "model.image.width": 32,
    "model.image.depth": 1,
    "model.image.mlp_dim": 32,
    "model.text.width": 32,
    "model.text.depth": 1,
    "model.text.mlp_dim": 32,
    "model.fusion.width": 32,
    "model.fusion.depth": 1,
    "model.fusion.mlp_dim": 32,
    "model.location.width": 32,
    "model.location.degree": 5,
}


@pytest.fixture(scope="module")
def command(mini_earth_tiles, tmp_path_factory):
    settings = {**TINY, "data.dir": mini_earth_tiles}
    cache = str(tmp_path_factory.mktemp("compiled"))
    return Command("flavars_jax.main", "configs/flavars.py", settings, cache)


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    suite = made_suite.settings(tmp_path_factory.mktemp("suite"), every_steps=6)
    status, output = command.finish(workdir, **suite)
    assert status == 0, output
    return workdir


def test_a_run_leaves_metrics_scores_checkpoints_and_a_report(finished):
    assert last_step(finished) == STEPS
    scores = json.loads((finished / "scores.json").read_text())
    tasks = {card["task"].split("/")[0] for card in scores["cards"]}
    assert {"knn", "zeroshot", "retrieval", "segmentation"} <= tasks
    assert str(STEPS) in os.listdir(finished / "checkpoints")
    assert "<html" in (finished / "report.html").read_text()
    assert json.loads((finished / "config.json").read_text())["seed"] == 0


def test_a_suite_is_scored_as_the_run_goes(finished):
    lines = map(json.loads, (finished / "metrics.jsonl").read_text().splitlines())
    found = {line["step"]: line for line in lines if made_suite.SCORE in line}
    assert list(found) == [6, 12]
    folder = finished / "evaluations" / "mine" / "step_12"
    cards = json.loads((folder / "scores.json").read_text())["cards"]
    assert {card["provenance"]["step"] for card in cards} == {STEPS}
    values = [
        card["value"] for card in cards if f"suite/{card['task']}/accuracy" == made_suite.SCORE
    ]
    assert values[0] == pytest.approx(found[12][made_suite.SCORE])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation__suite": "eart"}, "evaluation.suite='eart': did you mean 'earth'?"),
        (
            {"evaluation__suite": "torchgeo", "evaluation__suite_dir": "nowhere"},
            "give evaluation.suite_dir",
        ),
        ({"evaluation__suite_every_steps": 6}, "evaluation.suite_every_steps=6 of which suite?"),
    ],
)
def test_a_suite_that_is_none_is_refused_before_training(command, changes, message, tmp_path):
    status, output = command.finish(tmp_path / "run", **changes)
    assert status == 2 and message in output
    assert not (tmp_path / "run").exists()


def test_the_same_command_again_says_finished_and_changes_nothing(command, finished):
    before = (finished / "metrics.jsonl").read_bytes(), (finished / "scores.json").read_bytes()
    status, output = command.finish(finished)
    assert status == 0
    assert "finished" in output
    after = (finished / "metrics.jsonl").read_bytes(), (finished / "scores.json").read_bytes()
    assert after == before


def test_killed_and_terminated_runs_end_like_an_uninterrupted_one(command, finished, tmp_path):
    assert command.stop_at(tmp_path, 5, signal.SIGKILL) == -signal.SIGKILL
    assert command.stop_at(tmp_path, 8, signal.SIGTERM) == 75
    status, output = command.finish(tmp_path)
    assert status == 0, output
    expected = [line for line in comparable_lines(finished) if "suite/" not in line]
    assert comparable_lines(tmp_path) == expected


def test_more_steps_go_on_from_the_checkpoint(command, finished, tmp_path):
    status, output = command.finish(finished, training__steps=STEPS + 2)
    assert status == 0, output
    assert f"restored the checkpoint of step {STEPS}" in output
    assert last_step(finished) == STEPS + 2


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"model__image__patch": 7}, ["64", "7"]),
        ({"model__image__heads": 5}, ["32", "5"]),
        ({"data__batch_size": 16, "mesh__data": 3}, ["3"]),
        ({"optimizer__weight_decay": 0.3}, ["another config", "weight_decay"]),
        ({"data__name": "earth_tile"}, ["earth_tile", "earth_tiles"]),
    ],
    ids=["patch", "heads", "mesh", "other config", "dataset"],
)
def test_bad_input_gets_one_line_and_status_2(command, finished, changes, parts):
    before = sorted(os.listdir(finished / "checkpoints"))
    status, output = command.finish(finished, **changes)
    assert status == 2, output
    line = output.strip().splitlines()[-1]
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert sorted(os.listdir(finished / "checkpoints")) == before
