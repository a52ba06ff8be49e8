"""Real processes, really killed."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from training.run_toy import STEPS

from rsvl_jax.training.metrics import comparable

SCRIPT = Path(__file__).with_name("run_toy.py")


def launch(workdir, cache, steps=STEPS):
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(workdir), str(steps)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return errors


def stop_after(process, batches, number):
    """Sends a signal once so many batches were read; returns the exit status."""
    first = None
    for line in process.stdout:
        if line.startswith("batch "):
            step = int(line.split()[1])
            first = step if first is None else first
            if step - first >= batches:
                break
    process.send_signal(number)
    _, errors = process.communicate()
    return process.returncode, errors


def finished_steps(workdir):
    return sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def lines(workdir):
    return [comparable(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def straight(tmp_path_factory, compilation_cache):
    workdir = tmp_path_factory.mktemp("straight")
    finish(launch(workdir, compilation_cache))
    return workdir


def test_killed_and_terminated_runs_end_like_an_uninterrupted_one(
    straight, tmp_path, compilation_cache
):
    draw = random.Random(20)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        status, errors = stop_after(
            launch(tmp_path, compilation_cache), draw.randrange(3, 12), number
        )
        if number == signal.SIGKILL:
            assert status == -signal.SIGKILL
        else:
            assert status == 75, errors
            assert f"preempted: saved step {finished_steps(tmp_path)[-1]}" in errors
    assert finished_steps(tmp_path)[-1] < STEPS
    errors = finish(launch(tmp_path, compilation_cache))
    assert "restored the checkpoint of step" in errors
    assert lines(tmp_path) == lines(straight)
    expected, found = np.load(straight / "final.npz"), np.load(tmp_path / "final.npz")
    assert expected.files == found.files
    for name in expected.files:
        np.testing.assert_array_equal(found[name], expected[name])
