"""What runs on each host of a pod: a run that outlives the connection that started it."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from fake_programs import ROOT

SCRIPT = ROOT / "launch" / "on_host.sh"
SAVE = "trap 'sleep 0.3; exit 75' TERM; echo once >>{}; while :; do sleep 0.1; done"


@pytest.fixture
def host(tmp_path):
    def call(*words: str, check: bool = True) -> str:
        environment = {**os.environ, "LAUNCH_STATE": str(tmp_path)}
        command = ["bash", str(SCRIPT), *words]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60
        )
        assert not check or result.returncode == 0, result.stderr
        return result.stdout if check else f"{result.returncode} {result.stderr}"

    yield call
    call("end", "run", check=False)


def told(host):
    return host("status", "run").split(maxsplit=2)[2].strip()


def until_ended(host):
    deadline = time.time() + 30
    while (said := told(host)) == "running":
        assert time.time() < deadline
        time.sleep(0.05)
    return said


def until_exists(path):
    deadline = time.time() + 30
    while not path.exists():
        assert time.time() < deadline
        time.sleep(0.02)


def test_a_run_and_its_status_and_log(host):
    host("start", "run", "--", "bash", "-c", "pwd; exit 3")
    assert until_ended(host) == "ended 3"
    assert host("log", "run", "5").splitlines()[-1] == str(ROOT)


def test_starting_twice_runs_once(host, tmp_path):
    line = SAVE.format(tmp_path / "starts")
    host("start", "run", "--", "bash", "-c", line)
    host("start", "run", "--", "bash", "-c", line)
    assert told(host) == "running"
    until_exists(tmp_path / "starts")
    host("stop", "run")
    assert until_ended(host) == "ended 75"  # the status of the save, not of the signal
    assert (tmp_path / "starts").read_text() == "once\n"
    host("start", "run", "--", "true")
    assert until_ended(host) == "ended 0"


def test_what_does_not_stop_is_killed(host, tmp_path):
    deaf = f"trap '' TERM; touch {tmp_path}/ready; while :; do sleep 0.1; done"
    host("start", "run", "--", "bash", "-c", deaf)
    until_exists(tmp_path / "ready")
    host("stop", "run")
    time.sleep(0.3)
    assert told(host) == "running"
    host("end", "run")
    assert until_ended(host) == "ended 137"


def test_a_run_whose_host_was_started_anew_is_lost(host, tmp_path):
    assert told(host) == "lost"
    (tmp_path / "run.pid").write_text(str(os.getpid()))  # a pid that is another program's by now
    assert told(host) == "lost"


@pytest.mark.parametrize(
    "words", [["start", "run", "true"], ["start", "run", "--"], ["x", "y"], []]
)
def test_wrong_calls_have_status_2(host, words):
    assert host(*words, check=False).startswith("2 error: ")


def test_installation_uses_a_new_enough_python_and_the_pins(tmp_path):
    made = tmp_path / "bin"
    made.mkdir()
    calls = tmp_path / "calls"
    record = f'#!/bin/bash\necho "$(basename "$0") $*" >>{calls}\n'
    venv = 'mkdir -p "${@: -1}/bin"; cp "$(dirname "$0")/pip" "${@: -1}/bin/pip"\n'
    for name, then in (("python3", venv), ("pip", "")):
        (made / name).write_text(record + then)
        (made / name).chmod(0o755)
    for tool in ("bash", "dirname", "basename", "mkdir", "cp"):
        (made / tool).symlink_to(shutil.which(tool))
    environment = {"PATH": str(made), "LAUNCH_STATE": f"{tmp_path}/state"}
    install = ["bash", str(SCRIPT), "install", "tpu"]
    subprocess.run(install, env=environment, check=True, cwd=tmp_path)  # "uv" looks like a folder
    assert calls.read_text().splitlines() == [
        "python3 -m pip install --quiet --user uv",  # the host has only an old Python
        f"python3 -m uv venv --quiet --seed --python 3.12 {tmp_path}/state/venv",
        f"pip install --quiet --no-deps -r {ROOT}/requirements.txt",
        f"pip install --quiet --constraint {ROOT}/requirements.txt jax[tpu] gcsfs s3fs",
        f"pip install --quiet --no-deps --editable {ROOT}",
    ]


@pytest.mark.parametrize("script", ["on_host.sh", "slurm.sbatch"])
def test_shellcheck(script):
    shellcheck = shutil.which("shellcheck") or os.path.join(
        os.path.dirname(sys.executable), "shellcheck"
    )
    if not os.path.exists(shellcheck):
        pytest.skip("shellcheck is not installed")
    result = subprocess.run(
        [shellcheck, "--shell=bash", str(ROOT / "launch" / script)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
