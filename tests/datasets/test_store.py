"""Building, opening, and everything that can go wrong on the disk."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from rsvl_jax import datasets
from rsvl_jax.data.tokenizer import SentencePieceTokenizer
from rsvl_jax.datasets import building, check, registry, store
from rsvl_jax.datasets.__main__ import run
from rsvl_jax.datasets.earth_tiles.classes import CLASSES
from rsvl_jax.errors import UserError
from rsvl_jax.runtime import exit_status

MINI = "earth_tiles/mini"


@pytest.fixture
def copy(data_dir, tmp_path):
    """A copy of the data set that a test may spoil; gives (data_dir, directory of the set)."""
    shutil.copytree(data_dir, tmp_path / "data")
    return str(tmp_path / "data"), registry.find(MINI).directory(str(tmp_path / "data"))


def shard(directory, split="test"):
    return os.path.join(directory, f"earth_tiles-{split}.array_record-00000-of-00001")


def test_schema(records):
    record = records["train"][0]
    kinds = {name: type(value) for name, value in record.items()}
    assert kinds == {
        **dict.fromkeys(("id", "climate", "country", "continent", "city"), str),
        **dict.fromkeys(("image", "mask"), bytes),
        **dict.fromkeys(("captions", "phrases"), list),
        **dict.fromkeys(("lon", "lat"), float),
        **dict.fromkeys(("label", "dominant", "block", "row", "col"), int),
        **dict.fromkeys(("bbox", "landcover", "boxes"), np.ndarray),
    }
    assert record["bbox"].dtype == record["boxes"].dtype == np.float32
    assert record["landcover"].shape == (17,)


def test_every_record_is_good(records):
    for part in records.values():
        for record in part:
            check.check_record(record, len(CLASSES))
            assert len(record["captions"]) == 5
            assert record["phrases"]


def test_manifest(data_dir, records):
    manifest = datasets.manifest(MINI, data_dir)
    assert manifest["name"] == MINI
    assert manifest["splits"] == {"train": 240, "validation": 60, "test": 60}
    assert manifest["classes"] == list(CLASSES)
    assert all("{c}" in prompt for prompt in manifest["prompts"])
    assert len(manifest["fingerprint"]) == 64
    for split, part in records.items():
        labels = [record["label"] for record in part]
        assert set(labels) == set(range(-1, len(CLASSES)))
        counts = manifest["class_counts"][split]
        assert sum(counts.values()) == len(part)
        assert counts["desert"] == labels.count(CLASSES.index("desert"))


def test_artifacts(data_dir):
    tokenizer = SentencePieceTokenizer(datasets.artifact(MINI, data_dir, "tokenizer.model"))
    caption = "A satellite image of cropland."
    ids, mask = tokenizer.encode(caption, 40)
    assert tokenizer.decode(ids) == caption.lower()
    assert 500 < tokenizer.vocab_size <= building.VOCABULARY
    with np.load(datasets.artifact(MINI, data_dir, "codebook_p8_k512.npz")) as arrays:
        centroids = arrays["centroids"]
    assert centroids.shape == (512, 8 * 8 * 3)
    assert centroids.dtype == np.float32
    assert 0 <= centroids.min() < centroids.max() <= 1


def test_source_is_picklable_and_indexed_like_a_sequence(data_dir):
    source = datasets.load(MINI, data_dir, "test")
    first = source[0]["id"]
    again = pickle.loads(pickle.dumps(source))
    assert (again[0]["id"], len(again)) == (first, 60)
    assert source[-1]["id"] == source[59]["id"]
    assert source[np.int64(3)]["id"] == again[3]["id"]
    with pytest.raises(IndexError):
        source[60]


def test_ensure_leaves_a_whole_data_set_alone(data_dir, monkeypatch):
    monkeypatch.setattr(building, "build", lambda *_: pytest.fail("built again"))
    datasets.ensure(MINI, data_dir)
    datasets.ensure(MINI, data_dir)


def test_killed_build_leaves_nothing_and_the_next_one_is_the_same(tmp_path, data_dir):
    out = str(tmp_path)
    command = [sys.executable, "-m", "rsvl_jax.datasets", "build", "--name", MINI]
    process = subprocess.Popen([*command, f"--data_dir={out}"], stderr=subprocess.DEVNULL)
    staging = os.path.join(out, ".earth_tiles-mini-1.0.0.building")
    while process.poll() is None and not os.path.isdir(staging):
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert os.path.isdir(staging)
    assert not os.path.exists(registry.find(MINI).directory(out))
    with pytest.raises(UserError, match="no data set 'earth_tiles/mini'"):
        datasets.manifest(MINI, out)
    datasets.ensure(MINI, out)
    assert not os.path.exists(staging)
    assert datasets.manifest(MINI, out) == datasets.manifest(MINI, data_dir)


def test_two_builds_at_once_build_once(tmp_path, monkeypatch):
    calls = []

    def slow(entry, staging):
        calls.append(entry.name)
        whole = os.path.join(staging, "whole")
        os.makedirs(whole)
        time.sleep(0.2)
        with open(os.path.join(whole, store.MANIFEST), "w") as file:
            json.dump({}, file)
        return whole

    monkeypatch.setattr(building, "build", slow)
    threads = [threading.Thread(target=datasets.ensure, args=(MINI, str(tmp_path))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [MINI]
    assert datasets.manifest(MINI, str(tmp_path)) == {}


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("No space left on")]
)
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch, failure):
    def full(entry, staging):
        os.makedirs(staging)
        raise failure

    monkeypatch.setattr(building, "build", full)
    with pytest.raises(UserError, match="No space left.*another data directory") as caught:
        datasets.ensure(MINI, str(tmp_path))
    assert "\n" not in str(caught.value)
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []


def test_a_defect_of_ours_is_not_called_a_disk_error(tmp_path, monkeypatch):
    def broken(entry, staging):
        raise RuntimeError("a defect")

    monkeypatch.setattr(building, "build", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        datasets.ensure(MINI, str(tmp_path))


def test_half_built_directory(tmp_path):
    directory = registry.find(MINI).directory(str(tmp_path))
    os.makedirs(directory)
    with open(shard(directory), "wb") as file:
        file.write(b"good work of somebody")
    with pytest.raises(UserError, match="half built"):
        datasets.ensure(MINI, str(tmp_path))
    with pytest.raises(UserError, match="half built"):
        datasets.load(MINI, str(tmp_path), "train")
    assert os.path.exists(shard(directory))


def test_unknown_names_and_splits(data_dir):
    with pytest.raises(UserError, match="'earth_tile'.*did you mean 'earth_tiles'"):
        datasets.ensure("earth_tile", data_dir)
    with pytest.raises(UserError, match="'val'.*train, validation, test"):
        datasets.load(MINI, data_dir, "val")
    with pytest.raises(UserError, match="'nothing.npz'.*manifest.json"):
        datasets.artifact(MINI, data_dir, "nothing.npz")
    with pytest.raises(UserError, match="gs://bucket.*not a local path"):
        datasets.ensure(MINI, "gs://bucket")
    assert registry.find("earth_tiles/full") == registry.find("earth_tiles")


def test_truncated_shard(copy):
    data_dir, directory = copy
    with open(shard(directory), "r+b") as file:
        file.truncate(100_000)
    with pytest.raises(UserError, match="has 100000 bytes, not"):
        datasets.load(MINI, data_dir, "test")
    datasets.load(MINI, data_dir, "train")[0]


def test_corrupt_shard(copy):
    data_dir, directory = copy
    with open(shard(directory), "r+b") as file:
        file.seek(70_000)
        file.write(bytes(200))
    with pytest.raises(UserError, match="is corrupt"):
        check.check(MINI, data_dir)
    source = datasets.load(MINI, data_dir, "test")
    with pytest.raises(UserError, match="record .* cannot be read.*build it again"):
        list(source)


def test_manifest_that_is_not_json_or_of_other_records(copy):
    data_dir, directory = copy
    path = os.path.join(directory, "manifest.json")
    manifest = datasets.manifest(MINI, data_dir)
    with open(path, "w") as file:
        json.dump(manifest | {"fingerprint": "0" * 64}, file)
    with pytest.raises(UserError, match="not those of its manifest"):
        check.check(MINI, data_dir)
    with open(path, "w") as file:
        file.write("{")
    with pytest.raises(UserError, match="is not JSON"):
        datasets.manifest(MINI, data_dir)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": b"junk"}, "not a readable PNG"),
        ({"image": b""}, "not a readable PNG"),
        ({"mask": b"junk"}, "not a readable land-cover mask"),
        ({"lon": -75.0, "lat": 140.0}, "look swapped"),
        ({"lon": 400.0}, "not on the Earth"),
        ({"lat": float("nan")}, "not on the Earth"),
        ({"lon": 0.0}, "is not that of row"),
        ({"bbox": np.zeros(4, np.float32)}, "is not around its centre"),
        ({"label": 99}, "label 99"),
        ({"landcover": np.full(17, 1 / 17, np.float32)}, "not those of its mask"),
        ({"captions": ["one", "two", "three", "one"]}, "empty or repeat"),
        ({"captions": ["one", "two", "three", " "]}, "empty or repeat"),
        ({"captions": ["one"]}, "only 1 captions"),
        ({"phrases": ["a"], "boxes": np.array([[0, 0, 65, 3]], np.float32)}, "not inside"),
        ({"phrases": ["a"], "boxes": np.array([[5, 5, 5, 9]], np.float32)}, "not inside"),
        ({"phrases": ["a", "b"], "boxes": np.zeros((1, 4), np.float32)}, "2 phrases"),
    ],
)
def test_bad_records_are_refused(records, change, message):
    with pytest.raises(UserError, match=f"record '{records['test'][0]['id']}': .*{message}"):
        check.check_record(records["test"][0] | change, len(CLASSES))


def test_overlap_and_repetition_are_refused(records):
    first = records["train"][0]
    coverage = check.Coverage()
    coverage.add("train", first)
    coverage.add("train", first | {"id": "neighbour", "row": first["row"] + 20})
    with pytest.raises(UserError, match="comes twice"):
        coverage.add("train", first)
    with pytest.raises(UserError, match="'close' of 'test' shares pixels with 'train'"):
        coverage.add("test", first | {"id": "close", "row": first["row"] + 83})
    coverage.add("test", first | {"id": "next", "row": first["row"] + 84})


def test_commands(data_dir, capsys, tmp_path):
    run(["build", f"--name={MINI}", f"--data_dir={data_dir}"])
    run(["check", f"--name={MINI}", f"--data_dir={data_dir}"])
    run(["list", f"--data_dir={data_dir}"])
    told = capsys.readouterr().out.splitlines()
    assert "train 240, validation 60, test 60" in told[0]
    assert told[1].startswith("every record is good: earth_tiles/mini 1.0.0")
    assert told[2] == "earth_tiles 1.0.0: not built"
    assert told[3] == told[0]
    out = tmp_path / "page.html"
    run(["show", MINI, f"--data_dir={data_dir}", "--records=30", "--pictures=4", f"--output={out}"])
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"records of {MINI} in {out}")
    assert out.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: command"),
        (["buld"], "invalid choice: 'buld'"),
        (["build", "--frob"], "--frob"),
        (["build", "--name=earth_tile"], "did you mean 'earth_tiles'?"),
        (["list", "--data_dir=/no/such"], "no directory '/no/such'"),
        (["check", "--data_dir=/no/such"], "build it with 'python -m rsvl_jax.datasets build"),
        (["build", "--data_dir=/dev/null/x"], "cannot write '/dev/null/x"),
        (["show", "--pictures=0"], "--pictures=0"),
        (["show", "earth_tile"], "did you mean 'earth_tiles'?"),
    ],
)
def test_bad_commands_exit_with_2_and_one_line(argv, message, capsys):
    assert exit_status(lambda: run(argv)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
