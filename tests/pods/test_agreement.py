"""Two processes that see different things do the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from pod import ends, free_address
from training.toy import MANIFEST, Toy, batches, config

from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training.loop import fit

SCRIPT = Path(__file__).with_name("run_toys.py")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("compiled"))


def begin(workdir, steps, what, cache):
    address = free_address()
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[2]), os.environ.get("PYTHONPATH", "")]),
    }
    return [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(number), address, str(workdir), str(steps), what],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]


def run(workdir, steps, what, cache):
    return ends(begin(workdir, steps, what, cache))


def values(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("perf/")} for line in lines]


def measures(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


@pytest.mark.parametrize("what", ["metadata", "arrays"])
def test_what_one_cannot_read_no_other_takes(what, tmp_path, cache):
    for steps, wrong in ((12, "nothing"), (16, what)):
        first, second = run(tmp_path / "pod", steps, wrong, cache)
        assert (first[0], second[0]) == (0, 0), first[1] + second[1]
        assert " changes " not in second[1]  # process 0 alone writes what is not sharded
    assert "restored the checkpoint of step 8" in first[1]
    assert "restored" not in second[1]
    assert sorted(os.listdir(tmp_path / "pod" / "damaged")) == ["12"]
    one = make_mesh(devices=jax.devices()[:1])
    fit(
        config=config(steps=16),
        objective=Toy(),
        make_batches=batches(one),
        manifest=MANIFEST,
        workdir=str(tmp_path / "one"),
        mesh=one,
        evaluate=lambda state, step: {"scale": float(state.params["logit_scale"])},
    )
    found, wanted = values(tmp_path / "pod"), values(tmp_path / "one")
    assert [line["step"] for line in found] == [line["step"] for line in wanted]
    for line, other in zip(found, wanted, strict=True):
        assert line.keys() == other.keys()
        np.testing.assert_allclose(list(line.values()), list(other.values()), rtol=1e-4)
    for line in measures(tmp_path / "pod"):
        assert 0 <= line["perf/input_wait"] <= line["perf/input_wait_max"] <= 1
        assert 0 < line["perf/host_memory_peak"] <= line["perf/host_memory_peak_max"]


def test_processes_that_no_longer_get_on_end_with_their_stacks(tmp_path, cache):
    """Process 1 waits for data, process 0 for process 1."""
    found = run(tmp_path, 12, "input", cache)
    # The second to bark may find its peer gone first.
    assert 70 in [status for status, _ in found]
    assert {status for status, _ in found} <= {70, 75, -6}, found
    barked = "".join(output for status, output in found if status == 70)
    assert "stalled: step 6 takes longer than watchdog.seconds=20" in barked
    assert "in spoil" in found[1][1] or found[1][0] != 70
