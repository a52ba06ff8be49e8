"""`docs/pods.md` says what the launchers do: its commands parse, and go where they say."""

import re
import shlex

import pytest
from fake_programs import ROOT, launch

PAGE = (ROOT / "docs" / "pods.md").read_text()
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    ")]
ENVIRONMENT = {"CLOUDSDK_COMPUTE_ZONE": "z", "TPU_NAME": "flavars"}
# What each action must print among its commands in a dry run.
PROGRAMS = {
    "launch.host": r"^env XLA_FLAGS=.* python -m flavars_jax\.main ",
    "launch.tpu_vm": r"^gcloud compute tpus tpu-vm ",
    "launch.queued_resource": r"^gcloud compute tpus (queued-resources|tpu-vm) ",
    "launch.gke": r"^(docker build|xpk workload|kubectl logs) ",
    "launch.slurm": r"^env XLA_FLAGS=.* sbatch .* launch/slurm\.sbatch python -m flavars_jax\.main",
}


def launcher_lines():
    found = (re.search(r"python -m (launch\.\w+ .*)", line) for line in COMMANDS)
    return [m.group(1) for m in found if m and not m.group(1).startswith("launch.aot_compile")]


def test_every_launcher_and_action_is_shown():
    shown = {tuple(shlex.split(line)[:2]) for line in launcher_lines()}
    for module, actions in {
        "launch.tpu_vm": ("create", "install", "run", "logs", "stop", "delete"),
        "launch.queued_resource": ("run", "logs", "delete"),
        "launch.gke": ("image", "run", "status", "logs", "delete"),
    }.items():
        assert {(module, action) for action in actions} <= shown
    assert {"launch.host", "launch.slurm"} <= {module for module, _ in shown}


@pytest.mark.parametrize("line", launcher_lines())
def test_every_command_of_the_page_parses(line):
    module, *words = line.split(" ")
    first = 0 if words[0].startswith("--") else 1  # options come after the action
    words.insert(first, "--dry_run")
    result = launch(" ".join([module, *words]), ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    assert re.search(PROGRAMS[module], result.stdout, re.MULTILINE), result.stdout


def test_config_keys_of_the_page_are_of_the_launchers_or_the_recipe():
    keys = set(re.findall(r"--config\.([\w.]+)=", "\n".join(COMMANDS)))
    assert keys <= {"data.dir", "mesh.replica"}


def test_numbers_of_the_page_are_the_launchers_own():
    helps = {m: launch(f"{m} --help").stdout for m in PROGRAMS}
    assert "--restarts_per_hour=6" in PAGE and "(default 6)" in helps["launch.host"]
    assert "`--max_restarts`" in PAGE and "(default 50)" in helps["launch.gke"]
    assert "`--grace=300`" in PAGE and "(default 300)" in helps["launch.gke"]
    assert "`--grace` (360 s)" in PAGE and "(default 360)" in helps["launch.host"]
