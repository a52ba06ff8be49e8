"""Restarts of a run on one host: real processes, which note each of their starts in a file."""

import signal
import subprocess
import sys
import time

import pytest
from fake_programs import ROOT, launch

# Notes its start, then ends with the status that stands at this start's place in a list.
RUN = """
import os, pathlib, sys
starts = pathlib.Path(sys.argv[1])
with starts.open("a") as file:
    file.write(" ".join(sys.argv[3:]) + "\\n")
statuses = sys.argv[2].split(",")
status = int(statuses[min(len(starts.read_text().splitlines()), len(statuses)) - 1])
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""

# Says that it is ready, and ends with 75 when told to stop, as a run that saves does.
PATIENT = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[1] + ".saved").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
pathlib.Path(sys.argv[1]).open("a").write("start\\n")
time.sleep(60)
"""


@pytest.fixture
def script(tmp_path):
    def write(code):
        path = tmp_path / "run.py"
        path.write_text(code)
        return f"{sys.executable} {path}"

    return write


@pytest.mark.parametrize(
    ("statuses", "final", "starts"),
    [
        ("75,75,0", 0, 3),
        ("75,3", 3, 2),
        ("2", 2, 1),
        ("75,75,75,75,75,75,75,75", 75, 4),
        ("-9,-9,0", 0, 3),  # as the kernel kills where memory runs out
        ("-9", 75, 4),
        ("-11,0", 0, 2),
        ("-11", 139, 2),  # a crash is run again once
    ],
)
def test_starts_again_on_75_and_signals_and_not_for_ever(script, tmp_path, statuses, final, starts):
    command = f"{script(RUN)} {tmp_path}/starts {statuses}"
    result = launch(f"launch.host --chip=none --restarts_per_hour=3 -- {command}")
    assert result.returncode == final, result.stderr
    assert len((tmp_path / "starts").read_text().splitlines()) == starts
    assert ("too many restarts" in result.stderr) == (starts == 4)


def test_processes_find_one_another_and_restart_together(script, tmp_path):
    # Of two processes that share the file, the third and fourth start are the second go.
    command = f"{script(RUN)} {tmp_path}/starts 75,75,0,0"
    result = launch(f"launch.host --chip=none --processes=2 --port=9 -- {command}")
    assert result.returncode == 0, result.stderr
    lines = sorted((tmp_path / "starts").read_text().splitlines())
    shared = (
        "--config.distributed.kind=explicit --config.distributed.coordinator=127.0.0.1:9 "
        "--config.distributed.processes=2 --config.distributed.process="
    )
    assert lines == [f"{shared}{i}" for i in (0, 0, 1, 1)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on_and_end_the_run(script, tmp_path, number):
    code = PATIENT.replace("signal.SIGTERM", f"{int(number)}")
    words = script(code).split()
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.host", "--chip=none", "--", *words, f"{tmp_path}/starts"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 30
    while not (tmp_path / "starts").exists() and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=30) == 75  # what the run said; and it was not started again
    assert (tmp_path / "starts.saved").exists()
    assert (tmp_path / "starts").read_text() == "start\n"


def test_a_crash_is_one_though_the_launcher_killed_who_hung(script, tmp_path):
    code = f"""
import os, pathlib, signal, sys, time
starts = pathlib.Path({str(tmp_path)!r}, "starts")
if sys.argv[-1].endswith("process=0"):
    starts.open("a").write("start\\n")
    os.kill(os.getpid(), signal.SIGSEGV)
time.sleep(60)
"""
    result = launch(f"launch.host --chip=none --processes=2 --grace=0.3 -- {script(code)}")
    assert result.returncode == 139 and "a crash after a crash" in result.stderr
    assert (tmp_path / "starts").read_text() == "start\n" * 2


def test_when_one_process_dies_the_others_are_stopped(script, tmp_path):
    code = f"""
import os, sys
if sys.argv[-1].endswith("process=0"):
    os.kill(os.getpid(), 9)
{PATIENT}"""
    command = f"{script(code)} {tmp_path}/starts"
    result = launch(
        f"launch.host --chip=none --processes=2 --grace=0.3 --restarts_per_hour=0 -- {command}"
    )
    # The other one saved and said 75: nothing is lost, so it is run again, until the bound.
    assert (tmp_path / "starts.saved").exists()
    assert result.returncode == 75 and "too many restarts" in result.stderr


def test_a_dry_run_prints_the_commands():
    result = launch(
        "launch.host --dry_run --chip=h200 --processes=2 -- python -m graft_jax.main '--x=a b'",
        {"XLA_FLAGS": "--xla_mine=1"},
    )
    flags = "'XLA_FLAGS=--xla_mine=1 --xla_gpu_enable_latency_hiding_scheduler=true'"
    shared = (
        "python -m graft_jax.main '--x=a b' --config.distributed.kind=explicit "
        "--config.distributed.coordinator=127.0.0.1:8476 --config.distributed.processes=2"
    )
    memory = "XLA_PYTHON_CLIENT_MEM_FRACTION=0.92"
    assert result.stdout.splitlines() == [
        f"env {flags} {memory} JAX_CUDA_VISIBLE_DEVICES={i} {shared} "
        f"--config.distributed.process={i}"
        for i in (0, 1)
    ] + ["# together; again on status 75, when one was killed, and once after a crash"]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("launch.host --chip=none", "no command to run"),
        ("launch.host --chip=v9 -- true", "'v9'"),
        ("launch.host -- true", "--chip"),
        ("launch.host --chip=none --processes=0 -- true", "--processes=0"),
        ("launch.host --chip=none --process=2 -- true", "--process=2"),
        ("launch.host --chip=none -- no_such_program_here", "no_such_program_here"),
    ],
)
def test_bad_input_is_one_line_and_status_2(line, complaint):
    result = launch(line)
    assert result.returncode == 2
    errors = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert len(errors) == 1 and complaint in errors[0]
    assert "Traceback" not in result.stderr
