"""The claims' runs, their comparison and their page, on made-up results."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from reproduce import compare, metrics, page, plan, result, workers
from reproduce.__main__ import arguments, finished
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import classification
from rsvl_jax.evaluation.bootstrap import Blocks, percentile
from rsvl_jax.evaluation.card import Card, Provenance, Reference
from rsvl_jax.evaluation.scoring import Outcome, cards

SMALL = plan.SIZES["small"]
CLASSES = 4


def test_runs_differ_in_nothing_but_what_they_are():
    runs = {run.name: run for run in plan.runs(SMALL)}
    assert len(runs) == 22
    flavars = runs["flavars-1"].config("data").to_dict()
    clip = runs["clip-1"].config("data").to_dict()
    assert flavars["objective"].pop("weights") != clip["objective"].pop("weights")
    assert flavars == clip
    without = runs["flavars-without-mim-0"].config("data").objective.weights
    assert without.mim == 0 and without.mlm > 0
    assert runs["graft-2"].config("data").seeds == (2,)
    assert len({run.recipe() for run in runs.values()}) == len(runs)


def test_the_results_in_the_documentation_are_of_these_recipes():
    """A key that does not decide what a run learns must not change the recipe's hash."""
    folder = Path(__file__).parents[2] / "docs" / "claims" / "results"
    for run in plan.runs(plan.SIZES["small"]):
        found = result.read(str(folder), run.name)
        assert found is not None and found.recipe == run.recipe(), run.name


def test_every_size_has_recipes():
    for size in plan.SIZES.values():
        for run in plan.runs(size):
            run.config("data")


def test_chosen_runs():
    runs = plan.runs(SMALL)
    assert [run.name for run in plan.chosen(runs, ["clip-1"])] == ["clip-1"]
    assert [run.seed for run in plan.chosen(runs, ["FLAVARS"])] == [0, 1, 2]
    with pytest.raises(UserError, match="clpi"):
        plan.chosen(runs, ["clpi"])


def _scored(right: float, seed: int) -> list[Card]:
    """Cards of a classifier that is right so often, by the code that scores real ones."""
    rng = np.random.default_rng(seed)
    labels = np.arange(200) % CLASSES
    said = np.where(rng.random(200) < right, labels, (labels + 1) % CLASSES)
    outcome = Outcome(
        examples=classification.tallies(said, labels, CLASSES),
        references={"lucky": classification.tallies(labels, labels, CLASSES)},
        blocks=Blocks.draw(np.arange(200) // 20, seed=0),
    )
    template = Card("knn/l2_k5/mean", "", split_fingerprint="f", provenance=Provenance("w", 5, "r"))
    return cards(template, {"balanced_accuracy": classification.balanced_accuracy}, outcome)


def _result(group: str, seed: int, right: float) -> result.Result:
    run = next(r for r in plan.runs(SMALL) if (r.group, r.seed) == (group, seed))
    made = _scored(right, seed)
    return result.of_cards(run, made, split="test", steps=5, flops=1e12, seconds=60)


def test_results_come_back_from_their_file(tmp_path):
    made = _result("CLIP", 0, 0.6)
    result.write(str(tmp_path), made)
    assert result.read(str(tmp_path), "clip-0") == made
    assert result.read(str(tmp_path), "clip-1") is None
    (tmp_path / "clip-1.json").write_text('{"format"')
    with pytest.raises(UserError, match="clip-1"):
        result.read(str(tmp_path), "clip-1")


def test_a_result_of_another_recipe_is_not_taken(tmp_path):
    run = next(r for r in plan.runs(SMALL) if r.name == "clip-0")
    assert not finished(run, str(tmp_path), "test")
    result.write(str(tmp_path), _result("CLIP", 0, 0.6))
    assert finished(run, str(tmp_path), "test")
    with pytest.raises(UserError, match="another recipe or split"):
        finished(run, str(tmp_path), "validation")


def test_estimates_are_those_of_the_cards():
    """One seed: value and interval as `scoring` has them, from the sums alone."""
    made = _scored(0.6, 3)[0]
    found = compare.estimate([_result("CLIP", 0, 0.6)], metrics.KNN)
    again = _scored(0.6, 0)[0]
    assert found is not None and again.interval is not None
    assert found.value == pytest.approx(again.value)
    assert (found.low, found.high) == pytest.approx(again.interval)
    assert made.value != again.value


def test_differences_are_of_pairs():
    ours = [_result("FLAVARS", seed, 0.8) for seed in (0, 1)]
    theirs = [_result("CLIP", seed, 0.4) for seed in (0, 1)]
    found = compare.difference(ours, theirs, metrics.KNN)
    assert found is not None and found.verdict == "higher"
    values = [[r.values["knn/l2_k5/mean/balanced_accuracy"] for r in g] for g in (ours, theirs)]
    assert found.value == pytest.approx(np.mean(values[0]) - np.mean(values[1]), abs=1e-3)
    draws = compare.draws(10)
    by_hand = [
        np.mean(
            [
                classification.balanced_accuracy(draws @ np.array(r.sums(metrics.KNN.task)))
                for r in group
            ],
            axis=0,
        )
        for group in (ours, theirs)
    ]
    assert (found.low, found.high) == pytest.approx(percentile(100 * (by_hand[0] - by_hand[1])))
    same = compare.difference(ours, ours, metrics.KNN)
    assert same is not None and same.value == 0 and same.verdict == "not told apart"
    assert compare.difference(ours, theirs, metrics.TEXT) is None


def test_page_says_what_is_there(tmp_path):
    results = [
        _result(group, seed, right)
        for group, right in (("FLAVARS", 0.8), ("CLIP", 0.4))
        for seed in plan.SEEDS
    ]
    results.append(_result("FLAVARS without mim", 0, 0.7))
    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "notes.md").write_text("## What was tried\n\nMuch.\n")
    path = page.write(str(tmp_path / "claims.md"), results, SMALL)
    text = Path(path).read_text()
    assert "| kNN, k=5 | +" in text and "| higher |" in text
    assert "## Without each term" in text and "| mim |" in text
    assert text.endswith("## What was tried\n\nMuch.\n")
    assert "GRAFT" not in text.split("## What was run")[1]
    for picture in ("scores.png", "differences.png"):
        assert 0 < os.path.getsize(tmp_path / "claims" / picture) < 200_000


def test_references_of_graft_are_kept():
    run = next(r for r in plan.runs(SMALL) if r.graft)
    card = _scored(0.5, 0)[0]
    lucky = card.references[0]
    assert isinstance(lucky, Reference) and lucky.block_sums is not None
    made = result.of_cards(run, [card], split="test", steps=5, flops=1, seconds=1)
    kept = made.sums(f"{card.task} | lucky")
    assert kept is not None
    np.testing.assert_array_equal(kept, lucky.block_sums)


def test_jobs_have_cores_of_their_own():
    assert workers.shares([0, 1], 2) == [[0], [1]]
    assert workers.shares([0, 1, 2, 3], 2) == [[0, 2], [1, 3]]
    assert workers.shares([5], 2) == [[5], [5]]


def test_a_failed_run_stops_the_rest(tmp_path):
    said = tmp_path / "said"
    write = f"import sys; open({str(said)!r}, 'a').write(sys.argv[1])"
    commands = {
        "good": [sys.executable, "-c", write, "good"],
        "bad": [sys.executable, "-c", "print('woe'); raise SystemExit(3)"],
        "never": [sys.executable, "-c", write, "never"],
    }
    with pytest.raises(UserError, match="bad ended with status 3"):
        workers.run(commands, jobs=1, logs=str(tmp_path / "logs"))
    assert said.read_text() == "good"
    assert (tmp_path / "logs" / "bad.txt").read_text() == "woe\n"


def test_command_line():
    flags = arguments(["--workdir=here"])
    assert flags.page == os.path.join("here", "claims.md")
    with pytest.raises(UserError, match="--jobs=0"):
        arguments(["--jobs=0"])


def test_cards_are_written_without_sums(tmp_path):
    from rsvl_jax.evaluation import card

    card.write(str(tmp_path / "scores.json"), _scored(0.5, 0))
    assert "block_sums" not in (tmp_path / "scores.json").read_text()
