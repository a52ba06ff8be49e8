"""Runs side by side: what is compared, what is marked, what is refused."""

import json
from dataclasses import replace

import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card
from rsvl_jax.evaluation.card import Card
from rsvl_jax.report import compare

KNN = Card(
    task="knn/l2_k5",
    metric="accuracy",
    title="kNN",
    value=61.25,
    interval=(55.0, 66.0),
    n=40,
    dataset="tiles 1",
    dataset_fingerprint="aa",
    split="test",
    split_fingerprint="bb",
    protocol={"k": 5, "by_seed": [1]},
)


def run(folder, cards=(KNN,), losses=(3.0, 2.0), **config):
    folder.mkdir()
    content = {"seed": 0, "optimizer": {"learning_rate": 0.1}} | config
    (folder / "config.json").write_text(json.dumps(content))
    lines = [{"step": n + 1, "train/loss": loss} for n, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    if cards:
        card.write(str(folder / "scores.json"), list(cards))
    return str(folder)


def compared(tmp_path, *runs):
    output = tmp_path / "compare.html"
    return compare.write(runs, str(output)), output.read_text()


def test_scores_configs_and_losses_stand_side_by_side(tmp_path):
    other = replace(KNN, value=70.0, interval=None, protocol={"k": 5, "by_seed": [2]})
    more = replace(KNN, task="zeroshot", title="zero-shot")
    one = run(tmp_path / "one")
    two = run(tmp_path / "two", [other, more], optimizer={"learning_rate": 0.2, "b1": 0.9})
    text, page = compared(tmp_path, one, two)
    assert "| score | one | two |" in text
    assert "| knn/l2_k5/accuracy | 61.2 (55.0 to 66.0) | 70.0 |" in text
    assert "| zeroshot/accuracy | – | 61.2 (55.0 to 66.0) |" in text
    assert compare.MARK not in text
    for words in ("optimizer.learning_rate", "<td>0.1</td>", "<td>0.2</td>", "optimizer.b1"):
        assert words in page
    assert ">seed<" not in page
    assert page.count('class="run run0"') == page.count('class="run run1"') == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"protocol": {"k": 20}}, "k"),
        ({"split_fingerprint": "cc"}, "split"),
        ({"dataset_fingerprint": "cc"}, "data set"),
        ({"n": 41}, "examples"),
        ({"protocol": {"k": 5, "fit": "pad"}}, "fit"),
    ],
)
def test_another_protocol_is_marked_and_told(tmp_path, changes, named):
    one, two = run(tmp_path / "one"), run(tmp_path / "two", [replace(KNN, **changes)])
    text, page = compared(tmp_path, one, two)
    assert "| 61.2 (55.0 to 66.0) | ≠ 61.2 (55.0 to 66.0) |" in text
    assert f"another protocol ({named})" in text
    assert f'<span class="other">≠ 61.2 (55.0 to 66.0)</span><br>{named}' in page


def test_runs_of_one_name_keep_their_paths(tmp_path):
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    one, two = run(tmp_path / "a" / "run"), run(tmp_path / "b" / "run", cards=())
    text, page = compared(tmp_path, one, two)
    assert f"| {one} | {two} |" in text
    assert "The configurations are the same." in page


def test_bad_input_leaves_no_file(tmp_path):
    one = run(tmp_path / "one")
    for runs, message in (
        ([one], "2 to 4 work directories, not 1"),
        ([one, one], "names a work directory twice"),
        ([one, str(tmp_path / "none")], "no work directory"),
    ):
        with pytest.raises(UserError, match=message):
            compared(tmp_path, *runs)
        assert not (tmp_path / "compare.html").exists()
    with pytest.raises(UserError, match="no folder for --output"):
        compare.write([one, one], str(tmp_path / "none" / "compare.html"))
