"""A build that is killed, at any time and any number of times, comes to the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_downloads import SkyScript
from made_rows import Rows, command, files, row, small

from rsvl_jax.datasets.__main__ import run
from rsvl_jax.datasets.image_text import staging
from rsvl_jax.datasets.image_text.build import build
from rsvl_jax.runtime import exit_status

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Ends a build as a kill would: nothing catches it."""


def test_killed_at_every_step_it_comes_to_the_same_bytes(tmp_path, monkeypatch):
    """The process dies right before, or right after, each file takes its final name."""
    rows = [row(i) for i in range(12)]

    def go(folder):
        build(Rows(rows), name="x", data_dir=str(tmp_path / folder), options=small())

    go("calm")
    calm, hunted = files(tmp_path / "calm"), tmp_path / "hunted"
    replace, kills = os.replace, 0

    def deadly(source, target):
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        replace(source, target)
        if left == -1:
            raise Killed

    monkeypatch.setattr(staging.os, "replace", deadly)
    for attempt in range(200):
        left = 1 + attempt % (3 if attempt < 20 else 9)  # the last steps must come in one go
        try:
            go("hunted")
        except Killed:
            kills += 1
            # what bears the final name is whole, whatever else lies about
            final = hunted / "image_text/x/1.0.0"
            assert not final.exists() or calm.items() <= files(hunted).items()
        else:
            break
    assert kills > 15
    assert files(hunted) == calm


def kill_at_random(source, data_dir, seed, times, workers):
    """Starts the command and kills it, after another time on each turn; then lets it finish."""
    drawn = random.Random(seed)
    words = [sys.executable, "-m", "rsvl_jax.datasets", *command(source, data_dir)]
    words.append(f"--workers={workers}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = 0
    for _ in range(times):
        process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, cwd=data_dir)
        assert process.stderr is not None
        process.stderr.readline()  # it has begun
        time.sleep(drawn.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stderr.close()
    assert exit_status(lambda: run(command(source, data_dir))) == 0
    return killed


def test_killed_at_random_it_comes_to_the_same_bytes(tmp_path):
    source = SkyScript(tmp_path / "sky", rows=60, held=6).write()
    calm, hunted = tmp_path / "calm", tmp_path / "hunted"
    for folder in (calm, hunted):
        folder.mkdir()
    run(command(source, calm))
    kill_at_random(source, hunted, seed=0, times=2, workers=1)
    assert files(hunted) == files(calm)


@pytest.mark.slow
def test_killed_twenty_times_it_comes_to_the_same_bytes(tmp_path):
    source = SkyScript(tmp_path / "sky", rows=4000, held=100).write()
    calm, hunted = tmp_path / "calm", tmp_path / "hunted"
    for folder in (calm, hunted):
        folder.mkdir()
    run(command(source, calm))
    assert kill_at_random(source, hunted, seed=1, times=20, workers=2) >= 10
    assert files(hunted) == files(calm)
