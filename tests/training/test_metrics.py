import json
import os

import pytest
from bucket import Bucket
from tensorboardX.proto.event_pb2 import Event

from rsvl_jax.errors import UserError
from rsvl_jax.training.metrics import (
    MetricWriter,
    comparable,
    format_line,
    has_scores,
    truncate,
)


def write(workdir, *lines, tail=""):
    text = "".join(line + "\n" for line in lines)
    (workdir / "metrics.jsonl").write_text(text + tail)


def read(workdir):
    return (workdir / "metrics.jsonl").read_text()


def test_line_is_flat_json_with_perf_last():
    line = format_line(3, {"perf/mfu": None, "train/loss": 0.1, "perf/a": 1.0, "train/a": 2})
    assert line == '{"step": 3, "train/a": 2, "train/loss": 0.1, "perf/a": 1.0, "perf/mfu": null}'
    assert comparable(line + "\n") == '{"step": 3, "train/a": 2, "train/loss": 0.1'


def test_comparable_without_perf():
    assert comparable('{"step": 3, "eval/a": 2}\n') == '{"step": 3, "eval/a": 2'


def test_what_is_not_finite_becomes_null():
    line = format_line(1, {"train/loss": float("nan"), "train/b": float("inf")})
    assert json.loads(line) == {"step": 1, "train/loss": None, "train/b": None}


def test_writer_appends_and_truncate_cuts(tmp_path):
    writer = MetricWriter(str(tmp_path), 0, tensorboard=False)
    for step in (1, 2, 3):
        writer.write(step, {"train/loss": 1.0 / step})
    writer.flush()
    writer.close()
    whole = read(tmp_path)
    truncate(str(tmp_path), 2)
    assert read(tmp_path) == "".join(whole.splitlines(keepends=True)[:2])
    truncate(str(tmp_path), -1)
    assert read(tmp_path) == ""


def test_torn_and_foreign_lines_are_dropped(tmp_path):
    write(tmp_path, '{"step": 1, "a": 1}', "garbage", '{"step": 2, "a": 1}', tail='{"step": 2, "b')
    truncate(str(tmp_path), 5)
    assert read(tmp_path) == '{"step": 1, "a": 1}\n{"step": 2, "a": 1}\n'


def test_has_scores(tmp_path):
    assert not has_scores(str(tmp_path), 4)
    write(
        tmp_path, '{"step": 4, "eval/a": 1}', '{"step": 6, "train/a": 1}', tail='{"step": 8, "eval'
    )
    assert has_scores(str(tmp_path), 4)
    assert not has_scores(str(tmp_path), 6)
    assert not has_scores(str(tmp_path), 8)
    assert not has_scores(str(tmp_path), 4, "suite")


def test_directory_in_the_way_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises((UserError, IsADirectoryError)):
        MetricWriter(str(tmp_path), 0, tensorboard=False)


def events(folder):
    """The scalars of every event file: [(step, tag, value)]."""
    found = []
    for path in sorted(folder.iterdir()):
        data, position = path.read_bytes(), 0
        while position < len(data):
            length = int.from_bytes(data[position : position + 8], "little")
            event = Event.FromString(data[position + 12 : position + 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            position += 12 + length + 4
    return found


def test_tensorboard_events(tmp_path):
    writer = MetricWriter(str(tmp_path), 0)
    writer.write(1, {"train/loss": 0.5, "perf/mfu": None})
    writer.close()
    assert events(tmp_path / "tensorboard") == [(1, "train/loss", 0.5)]


def test_an_object_store_gets_the_same_lines_as_a_disk(tmp_path, bucket):
    for workdir in ("gs://bucket/run", str(tmp_path)):
        for start in (0, 3):
            writer = MetricWriter(workdir, start, tensorboard=workdir != str(tmp_path))
            for step in range(start + 1, start + 5):
                writer.write(step, {"train/loss": 1.0 / step})
            writer.write(start + 2, {"eval/accuracy": 0.5})
            writer.flush()
            writer.write(start + 5, {"train/loss": 0.0})
            writer.close()
            truncate(workdir, 3)
            assert has_scores(workdir, 2)
            assert not has_scores(workdir, 5)
    assert sorted(os.listdir(bucket / "run")) == ["metrics.jsonl"]
    assert read(bucket / "run") == read(tmp_path)
    assert Bucket.writes == 6  # of each start: a flush, the end, a truncation
