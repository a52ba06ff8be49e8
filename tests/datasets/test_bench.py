"""The speed of a data set's input, and what it means for a pod."""

import argparse
import re

import cv2
import numpy as np
import pytest

from rsvl_jax.datasets import __main__, bench
from rsvl_jax.errors import UserError

MINI = "earth_tiles/mini"


class Jpegs:
    """JPEGs without captions, one of them cut."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        pixels = np.random.default_rng(index).integers(0, 256, (90, 120, 3)).astype(np.uint8)
        data = cv2.imencode(".jpg", pixels)[1].tobytes()
        return {"id": str(index), "image": data[:500] if index == 5 else data, "captions": []}


def run(*flags: str) -> str:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    quick = ["--seconds=0.01", "--batch_size=8", "--size=32", "--cores=1"]
    return bench.run(parser.parse_args([MINI, *quick, *flags]))


def column(report: str, row: str) -> list[float]:
    line = next(line for line in report.splitlines() if line.startswith(row))
    return [float(number.replace(",", "")) for number in re.findall(r" ([\d,.]+)", line)]


def test_stages_add_up_and_a_setting_is_recommended(data_dir, capsys):
    flags = ["bench", MINI, f"--data_dir={data_dir}", "--seconds=0.02", "--batch_size=8"]
    __main__.run([*flags, "--cores=1", "--size=64"])
    report = capsys.readouterr().out
    assert report.startswith("earth_tiles/mini/train: 240 records, the first of 64 x 64 px, PNG")
    names = ("read a record", "decode and augment", "copy into the batch", "tokenize")
    cost, per_core = column(report, "all but the bracketed")
    assert sum(column(report, name)[0] for name in names) == pytest.approx(cost, abs=0.3)
    assert per_core == pytest.approx(1e6 / cost, rel=0.01)
    assert column(report, "(decode it whole)")[0] < column(report, "decode and augment")[0] + 50
    assert column(report, "data.workers=0 data.threads=1")[0] > 0
    assert "best here: --config.data.workers=0 --config.data.threads=1" in report


def test_jpegs_without_captions_and_a_corrupt_one(monkeypatch):
    monkeypatch.setattr(bench.store, "load", lambda *_: Jpegs())
    report = run("--gflops_per_sample=100", "--chip_tflops=100", "--mfu=0.5", "--chips=64")
    assert "120 x 90 px, JPEG" in report and "tokenize" not in report
    assert re.search(r"^[1-9]\d* records with an undecodable image were replaced$", report, re.M)
    assert "64 chips at 500 samples/s each take 32,000 samples/s: 16 hosts of 4, 2,000" in report


def test_cores_are_what_the_rate_asks_for():
    line = bench.feed(256, 8, rate=100.0, per_core=400.0)
    assert line == (
        "256 chips at 100 samples/s each take 25,600 samples/s: 32 hosts of 8, "
        "800 samples/s each, 2.0 cores like this one's for the input"
    )
    assert "1 hosts of 8, 200 samples/s each" in bench.feed(2, 8, rate=100.0, per_core=400.0)


def test_fewer_workers_are_recommended_where_more_give_nothing():
    rates = [bench.Rate(0, n, speed, 1.0) for n, speed in ((1, 50.0), (2, 97.0), (4, 100.0))]
    assert "data.threads=2" in bench._advice(rates)


@pytest.mark.parametrize(
    ("first", "last", "counts"), [(1, 1, [1]), (2, 1, []), (1, 6, [1, 2, 4, 6]), (2, 8, [2, 4, 8])]
)
def test_counts_double_up_to_the_cores(first, last, counts):
    assert bench._doubling(first, last) == counts


@pytest.mark.parametrize(
    ("flag", "match"),
    [
        ("--chips=8", "needs --samples_per_second_per_chip="),
        ("--chips=0", "--chips=0"),
        ("--decode=half", "data.decode='half'"),
        ("--crop_scale=1", "--crop_scale='1'"),
        ("--crop_scale=2,3", r"--crop_scale='2,3'"),
    ],
)
def test_bad_flags_are_one_line(flag, match, monkeypatch):
    monkeypatch.setattr(bench.store, "load", lambda *_: Jpegs())
    with pytest.raises(UserError, match=match):
        run(flag)
