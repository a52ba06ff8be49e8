"""The command itself: real processes on real tiles, finished, killed, resumed and refused."""

import json
import os
import signal
from dataclasses import replace

import made_suite
import numpy as np
import pytest
from command_runs import Command, comparable_lines, last_step

from graft_jax.towers import open_model
from rsvl_jax.evaluation import card

STEPS = 6
SMALL = {"width": 32, "depth": 1, "mlp_dim": 32}
TINY = {
    "seeds": "(0,1)",
    "data.name": "zoom_pairs/mini",
    "data.batch_size": 16,
    "training.steps": STEPS,
    "teacher.training.steps": STEPS,
    "teacher.data.batch_size": 16,
    "checkpoint.every_steps": 2,
    "metrics.every_steps": 1,
    "evaluation.every_steps": 3,
    "evaluation.batch_size": 128,
    **{f"model.{tower}.{key}": v for tower in ("image", "text") for key, v in SMALL.items()},
    "model.embed_dim": 16,
}
PARTS = ("teacher", "seed0", "seed1")


@pytest.fixture(scope="module")
def command(mini_zoom_pairs, tmp_path_factory):
    settings = {**TINY, "data.dir": mini_zoom_pairs}
    settings |= made_suite.settings(tmp_path_factory.mktemp("suite"))
    cache = str(tmp_path_factory.mktemp("compiled"))
    return Command("graft_jax.main", "configs/graft.py", settings, cache)


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    status, output = command.finish(workdir)
    assert status == 0, output
    for row in "(a) frozen teacher", "(b) student", "(c) untrained", "(d) chance", "(b) - (a)":
        assert row in output
    return workdir


def test_a_run_leaves_teacher_embeddings_students_scores_and_a_report(finished):
    assert [last_step(finished / part) for part in PARTS] == [STEPS] * 3
    assert all(str(STEPS) in os.listdir(finished / part / "checkpoints") for part in PARTS)
    assert {"train", "test"} <= set(os.listdir(finished / "ground"))
    suite = finished / "seed0" / "evaluations" / "mine" / f"step_{STEPS}"
    assert (suite / "scores.json").exists()
    assert made_suite.SCORE in (finished / "seed0" / "metrics.jsonl").read_text()
    assert (finished / "metrics.jsonl").read_text() == (
        finished / "seed0" / "metrics.jsonl"
    ).read_text()
    page = (finished / "report.html").read_text()
    assert "GRAFT run report" in page and "not ground photos" in page
    assert json.loads((finished / "config.json").read_text())["seeds"] == [0, 1]


def test_scores_hold_a_to_d(finished):
    cards = {each.key: each for each in card.read(str(finished / "scores.json"))}
    whole = cards["zeroshot/balanced_accuracy"]
    seeds = [cards[f"zeroshot/seed{seed}/balanced_accuracy"].value for seed in (0, 1)]
    assert whole.value == pytest.approx(np.mean(seeds))
    assert whole.protocol["by_seed"] == pytest.approx(seeds, abs=0.006)
    assert whole.chance == pytest.approx(100 / 11)
    for name, key in (
        ("frozen teacher on the coarse tile", "teacher"),
        ("untrained student", "untrained"),
    ):
        reference = whole.reference(name)
        assert reference.value == cards[f"zeroshot/{key}/balanced_accuracy"].value
        assert reference.difference is not None
    assert {"retrieval/class_prompt/map@20", "retrieval/class_prompt/map@100"} <= set(cards)
    assert "zoom pairs, not ground photos" in whole.note
    assert len({each.provenance.weights for each in cards.values()}) == 5


def test_the_same_command_again_says_finished_and_changes_nothing(command, finished):
    def contents():
        names = ("scores.json", "report.html", "metrics.jsonl", "seed1/metrics.jsonl")
        return [(finished / name).read_bytes() for name in names]

    before = contents()
    status, output = command.finish(finished)
    assert status == 0
    assert output.count("finished: ") == 3
    assert contents() == before


def test_killed_and_terminated_runs_end_like_an_uninterrupted_one(command, finished, tmp_path):
    assert command.stop_at(tmp_path, 3, signal.SIGKILL, "teacher") == -signal.SIGKILL
    assert command.stop_at(tmp_path, 4, signal.SIGTERM, "seed0") == 75
    status, output = command.finish(tmp_path)
    assert status == 0, output
    for part in PARTS:
        assert comparable_lines(tmp_path / part) == comparable_lines(finished / part)
    both = [card.read(str(each / "scores.json")) for each in (tmp_path, finished)]
    # Not the revision: files may be edited while the tests run.
    one, other = ([replace(c, provenance=c.provenance.weights) for c in cards] for cards in both)
    assert one == other


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"optimizer__weight_decay": 0.3}, ["another config", "optimizer.weight_decay"]),
        ({"teacher__optimizer__learning_rate": 0.3}, ["another config", "teacher.optimizer"]),
        ({"data__name": "earth_tiles/mini"}, ["earth_tiles/mini", "zoom_pairs"]),
    ],
    ids=["students", "teacher", "data"],
)
def test_bad_input_gets_one_line_and_status_2(command, finished, changes, parts):
    before = (finished / "config.json").read_bytes()
    status, output = command.finish(finished, **changes)
    assert status == 2, output
    line = output.strip().splitlines()[-1]
    assert line.startswith("error: ")
    for part in parts:
        assert part in line
    assert (finished / "config.json").read_bytes() == before


def test_the_trained_student_opens_without_its_data(finished):
    model = open_model(str(finished))
    assert (model.image_size, model.patch_size) == (32, 4)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    seen = model.images(images)
    texts = model.texts(["a satellite image of desert.", "cropland", "x"])
    assert seen["image"].shape == (8, 16)
    assert seen["pixels"].shape == (8, 64, 16)
    assert texts.shape == (3, 16)
    for vectors in (seen["image"], seen["pixels"], texts):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)
    weights = {each.provenance.weights for each in card.read(str(finished / "scores.json"))}
    assert model.fingerprint in weights
