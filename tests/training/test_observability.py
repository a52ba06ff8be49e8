"""What a run tells of itself: goodput, memory, profiles, its program, the places of parameters."""

import gzip
import json
import os
import signal
import time

import jax
import numpy as np
import pytest
from training.toy import MANIFEST, Toy, batches, config

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training import hosts, profiling
from rsvl_jax.training.goodput import Goodput
from rsvl_jax.training.loop import fit
from rsvl_jax.training.profiling import Profiler


def start(workdir, mesh, conf, spoil=lambda step, batch: batch):
    return fit(
        config=conf,
        objective=Toy(),
        make_batches=batches(mesh, spoil=spoil),
        manifest=MANIFEST,
        workdir=str(workdir),
        mesh=mesh,
    )


def traces(workdir):
    return sorted((workdir / "profile").rglob("*.xplane.pb"))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The work directory of a run of 8 steps, traced from step 2 and, by signal, once more."""
    workdir = tmp_path_factory.mktemp("told")

    def ask(step, batch):
        if step == 4:
            os.kill(os.getpid(), signal.SIGUSR1)
        return batch

    conf = config(steps=8)
    with conf.unlocked():
        conf.profile = {"steps": (2,), "length": 2}
    before = signal.getsignal(signal.SIGUSR1)
    start(workdir, make_mesh(data=1, fsdp=8), conf, spoil=ask)
    assert signal.getsignal(signal.SIGUSR1) is before
    return workdir


def test_traces_of_named_steps_and_on_a_signal(told):
    files = traces(told)
    first, second = (path.parent.name for path in files)
    # Batches are made ahead of their steps: the signal comes within some steps of its batch.
    assert first == "steps_2-3" and second in ("steps_4-5", "steps_5-6", "steps_6-7")
    named, asked = (path.read_bytes() for path in files)
    # The steps of a trace are named in it.
    assert b"train" in named and b"train" in asked
    assert not [path for path in told.rglob("*") if path.suffix == ".tmp"]


def test_the_program_is_kept_once(told):
    assert [path.name for path in told.glob("*.stablehlo.gz")] == ["step.stablehlo.gz"]
    text = gzip.decompress((told / "step.stablehlo.gz").read_bytes()).decode()
    assert text.startswith("module @jit_step") and "stablehlo.dot_general" in text
    assert '"fsdp"=8' in text


def test_the_table_of_parameters(told):
    lines = (told / "parameters.txt").read_text().splitlines()
    assert lines[0].split()[0] == "parameter"
    kernel = next(line for line in lines if line.startswith("image/in/kernel"))
    assert "16x32" in kernel and "(fsdp, -)" in kernel and kernel.endswith(" 256")
    assert lines[-1].endswith("replicated")


def test_parameters_left_whole_are_refused_before_anything_is_written(tmp_path):
    conf = config()
    with conf.unlocked():
        conf.mesh.max_replicated = 0.0
    with pytest.raises(UserError, match="mesh.max_replicated=0.0; the largest are image/in/bias"):
        start(tmp_path / "run", make_mesh(data=1, fsdp=8), conf)
    assert not (tmp_path / "run").exists()


def measures(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "train/loss" in line]


def test_goodput_and_memory_are_logged(told):
    for line in measures(told):
        assert 0 < line["perf/goodput"] < 1
        assert 0.05 < line["perf/host_memory_peak"] < 1000
    found = json.loads((told / "goodput.json").read_text())
    assert sorted(map(int, found["productive"])) == [4, 8]
    assert 0 < found["productive"]["4"] < found["productive"]["8"]


def test_goodput_goes_on_over_restarts(told, tmp_path):
    """A run whose first start was an hour ago has stood still since."""
    mesh = make_mesh(devices=jax.devices()[:1])
    start(tmp_path, mesh, config(steps=4))
    found = json.loads((tmp_path / "goodput.json").read_text())
    found["first_start"] -= 3600
    (tmp_path / "goodput.json").write_text(json.dumps(found))
    start(tmp_path, mesh, config(steps=8))
    again = json.loads((tmp_path / "goodput.json").read_text())
    assert again["first_start"] == found["first_start"]
    assert again["productive"]["4"] == found["productive"]["4"] < again["productive"]["8"]
    assert measures(tmp_path)[-1]["perf/goodput"] < again["productive"]["8"] / 3600


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_steps_taken_again_are_no_goodput(clock, tmp_path):
    first = Goodput(str(tmp_path), 0)
    clock[0] += 100
    assert first.fraction(60.0) == 0.6
    first.saved(10, 60.0)
    clock[0] += 100
    first.saved(20, 130.0)
    # The checkpoint of step 20 is damaged: what came after step 10 is lost.
    second = Goodput(str(tmp_path), 10)
    assert second.fraction(0.0) == 60 / 200
    clock[0] += 40
    assert second.fraction(30.0) == 90 / 240
    second.saved(15, 30.0)
    assert Goodput(str(tmp_path), 15).fraction(0.0) == 90 / 240
    # No checkpoint at all: the time since the first start counts all the same.
    assert Goodput(str(tmp_path), 0).fraction(24.0) == 0.1


@pytest.mark.parametrize("content", ["", "{", "[1]", '"x"'])
def test_a_damaged_file_starts_anew(content, clock, tmp_path):
    (tmp_path / "goodput.json").write_text(content)
    goodput = Goodput(str(tmp_path), 5)
    clock[0] += 10
    assert goodput.fraction(5.0) == 0.5


class Device:
    def __init__(self, peak):
        self.peak = peak

    def memory_stats(self):
        return None if self.peak is None else {"peak_bytes_in_use": self.peak}


def test_memory_of_the_fullest_device():
    found = hosts.memory([Device(2**30), Device(3 * 2**30)])
    assert found["perf/device_memory_peak"] == 3.0
    assert set(hosts.memory([Device(None)])) == {"perf/host_memory_peak"}
    # What is in use now is the least that the peak can be.
    assert found["perf/host_memory_peak"] * 2**30 >= 0.5 * _resident()


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_measures_of_one_process_are_its_own():
    values = {"perf/input_wait": 0.25}
    assert hosts.Hosts(make_mesh()).together(values) == values


@pytest.mark.parametrize(("steps", "length"), [((0,), 3), ((5, -1), 3), ((5,), 0)])
def test_traces_that_cannot_be_are_refused(steps, length, tmp_path):
    with pytest.raises(UserError, match="profile.steps=.*profile.length=.* count from 1"):
        Profiler(str(tmp_path), steps, length)


def test_another_profiler_at_work_ends_no_run(tmp_path, capsys):
    with jax.profiler.trace(str(tmp_path / "other")), Profiler(str(tmp_path), (1,)) as profiler:
        profiler.before(1, lambda: None)
        profiler.after(3, lambda: None)
    assert "no profile of step 1" in capsys.readouterr().err
    assert not (tmp_path / profiling.FOLDER).exists()


def test_a_trace_that_a_run_ends_in_is_kept(tmp_path):
    settled = []
    with Profiler(str(tmp_path), (1,), length=100) as profiler:
        profiler.before(1, lambda: settled.append(1))
        with profiler.step(1):
            np.asarray(jax.numpy.ones(3) + 1)
        profiler.after(1, lambda: settled.append(2))
    assert settled == [1]
    assert len(traces(tmp_path)) == 1
