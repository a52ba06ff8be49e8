"""Our own directory of weights: what is written is what is read, whole or not at all."""

import json
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.weights import imports, kinds, store, trees
from rsvl_jax.weights.family import Model
from rsvl_jax.weights.sources import Arrays
from rsvl_jax.weights.store import Stored

SETTINGS = {"location": {"kind": "fourier", "dim": 3, "width": 4, "depth": 1, "frequencies": 2}}
MODEL = Model(
    "location", SETTINGS, kinds.parts("location", SETTINGS), {"mean": [0.5]}, {"kind": "none"}
)


def arrays():
    draw = np.random.default_rng(0)
    shapes = trees.shapes(MODEL)
    found = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    first, second = list(found)[:2]
    found[first] = found[first].astype(ml_dtypes.bfloat16)
    found[second] = np.asfortranarray(found[second].astype(np.float16))
    return found


def stored(values, **more):
    source = {"name": "somewhere", "files": ["x.pt"], "sha256": "0" * 64}
    return Stored(MODEL, Arrays.of(values), "geoclip", source, store.fingerprint(values), **more)


def test_a_round_trip_gives_the_same_bits(tmp_path):
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    given = stored(arrays(), tokenizer={"vocab.txt": str(tmp_path / "vocab.txt")})
    folder = store.write(str(tmp_path / "out"), given)
    found = store.read(folder)
    assert found.arrays.shapes == given.arrays.shapes
    for name, value in arrays().items():
        assert found.arrays[name].dtype == value.dtype
        assert found.arrays[name].tobytes() == np.ascontiguousarray(value).tobytes()
    assert found.fingerprint == given.fingerprint == store.fingerprint(found.arrays)
    assert (found.family, found.source) == (given.family, given.source)
    assert found.model.settings == SETTINGS and found.model.preprocessing == {"mean": [0.5]}
    assert found.model.tokenizer == {"kind": "none"}
    assert trees.shapes(found.model) == trees.shapes(MODEL)
    assert Path(found.tokenizer["vocab.txt"]).read_text() == "a\nb\n"
    # It is a source like any other.
    again = imports.load(folder)
    assert again.stored.fingerprint == given.fingerprint


def test_the_fingerprint_is_of_names_types_shapes_and_bits():
    base = {"a": np.arange(4, dtype=np.float32), "b": np.ones(2, np.float32)}
    same = {"b": base["b"].copy(), "a": base["a"].copy()}
    assert store.fingerprint(base) == store.fingerprint(same)
    turned = np.asfortranarray(base["a"].reshape(2, 2))
    assert store.fingerprint({"a": turned}) == store.fingerprint({"a": base["a"].reshape(2, 2)})
    others = [
        {"c": base["a"], "b": base["b"]},
        {**base, "a": base["a"].reshape(2, 2)},
        {**base, "a": base["a"].view(np.int32)},
        {**base, "a": np.nextafter(base["a"], 9)},
        {**base, "b": -base["b"]},
        {"a": base["a"]},
    ]
    prints = {store.fingerprint(each) for each in [base, *others]}
    assert len(prints) == len(others) + 1


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(UserError, match="is there already"):
        store.write(str(tmp_path / "out"), stored(arrays()))
    assert os.listdir(tmp_path / "out") == ["mine"]
    (tmp_path / "empty").mkdir()
    store.write(str(tmp_path / "empty"), stored(arrays()))
    assert store.is_stored(str(tmp_path / "empty"))


def test_a_failure_half_way_leaves_nothing(tmp_path):
    given = stored(arrays(), tokenizer={"vocab.txt": str(tmp_path / "missing")})
    with pytest.raises(FileNotFoundError):
        store.write(str(tmp_path / "out"), given)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "rsvl_jax weights, version 9"}, "version 9"),
        ({"kind": "nothing"}, "unknown kind of model 'nothing'"),
        ({"settings": {}}, "damaged"),
        ({"settings": {"location": {"width": 3, "more": 1}}}, "more"),
        ({"tokenizer": {"files": ["absent.txt"]}}, "no 'absent.txt'"),
        ({"tokenizer": None}, "damaged"),
    ],
)
def test_a_config_that_is_damaged(tmp_path, change, words):
    folder = store.write(str(tmp_path / "out"), stored(arrays()))
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=words):
        store.read(folder)


def test_tokenizer_files_outside_the_directory_are_not_read(tmp_path):
    folder = store.write(str(tmp_path / "out"), stored(arrays()))
    (tmp_path / "secret").write_text("x")
    path = tmp_path / "out" / "config.json"
    content = json.loads(path.read_text())
    content["tokenizer"]["files"] = ["../secret"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="leads out of"):
        store.read(folder)
