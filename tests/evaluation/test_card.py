"""Score cards: round trip, atomic write, table, fingerprints."""

import json
import os
from dataclasses import replace

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card as cards
from rsvl_jax.evaluation.card import Card, Provenance, Reference
from rsvl_jax.parallel.mesh import make_mesh

CARD = Card(
    task="knn/l2_k5/mean",
    metric="accuracy",
    title="kNN land cover",
    value=61.25,
    interval=(55.0, 67.5),
    interval_method="95% percentile bootstrap over 19 geographic blocks, 1000 draws",
    chance=10.0,
    references=(Reference("colour statistics", 59.2, (50.0, 66.0), (-1.0, 5.0)),),
    n=1095,
    dataset="earth_tiles 1.0.0",
    dataset_fingerprint="abc",
    split="test",
    split_fingerprint="def",
    protocol={"k": 5, "classes": ["Wald", "Küste"], "pooling": "mean"},
    per_class={"Wald": 50.0},
    provenance=Provenance(weights="0123", step=900, revision="c0ffee"),
)
MISSING = Card(task="zeroshot", metric="accuracy", note="not applicable: no text encoder")


def test_round_trip(tmp_path):
    path = str(tmp_path / "scores.json")
    cards.write(path, [CARD, MISSING])
    assert cards.read(path) == [CARD, MISSING]
    assert os.listdir(tmp_path) == ["scores.json"]
    content = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert content["cards"][0]["protocol"]["classes"] == ["Wald", "Küste"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / "scores.json")
    cards.write(path, [CARD])
    with pytest.raises(ValueError, match="not JSON compliant"):
        cards.write(path, [replace(CARD, value=float("nan"))])

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        cards.write(path, [MISSING])
    assert cards.read(path) == [CARD]
    assert os.listdir(tmp_path) == ["scores.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"format": "other"}', '{"cards": []}'])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"scores\.json"):
        cards.read(str(path))


def test_table_shows_references_and_what_does_not_apply():
    table = cards.markdown([CARD, MISSING])
    rows = table.splitlines()
    assert len(rows) == 4
    assert "accuracy (%) | 61.2 (55.0–67.5) | 10.0 | colour statistics 59.2 | 1095" in rows[2]
    assert "not applicable: no text encoder" in rows[3]


def test_metrics_are_flat_and_leave_out_what_does_not_apply():
    assert cards.as_metrics([CARD, MISSING]) == {"eval/knn/l2_k5/mean/accuracy": 61.25}


def test_references_are_found_by_name():
    assert CARD.reference("colour statistics").value == 59.2
    with pytest.raises(KeyError):
        CARD.reference("astrology")


def test_fingerprint_of_weights_ignores_sharding_and_sees_every_change():
    rng = np.random.default_rng(0)
    tree = {"a": {"w": rng.normal(size=(16, 4)).astype(np.float32)}, "b": np.zeros(8, np.float32)}
    mesh = make_mesh(data=1, fsdp=8)
    split = jax.device_put(tree, NamedSharding(mesh, PartitionSpec("fsdp")))
    whole = cards.weights_fingerprint(tree)
    assert cards.weights_fingerprint(split) == whole
    swapped = {"a": {"w": tree["a"]["w"][::-1].copy()}, "b": tree["b"]}
    renamed = {"a": {"v": tree["a"]["w"]}, "b": tree["b"]}
    nudged = {"a": {"w": tree["a"]["w"].copy()}, "b": tree["b"]}
    nudged["a"]["w"][3, 2] = np.nextafter(nudged["a"]["w"][3, 2], np.float32(9))
    found = {cards.weights_fingerprint(other) for other in (swapped, renamed, nudged)}
    assert len(found | {whole}) == 4
