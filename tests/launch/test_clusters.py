"""GKE through xpk, and SLURM: what is submitted, and what the job does with its own status."""

import os
import subprocess
import sys

import pytest
from fake_programs import ROOT, FakePrograms, launch

GKE = "--cluster=c --zone=z --workload=w"
SIZE = "--tpu_type=v5litepod-256 --image=registry/flavars:1"
SLURM = "--nodes=2 --gpus_per_node=8 --time=24:00:00 --chip=h100"
SCRIPT = ROOT / "launch" / "slurm.sbatch"


def test_an_xpk_workload_restarts_on_75():
    line = f"launch.gke run --dry_run {GKE} {SIZE} --slices=2 --chip=none"
    result = launch(f"{line} -- python -m flavars_jax.main '--config.a=b c'", {"XLA_FLAGS": "--a"})
    assert result.stdout == (
        "xpk workload create --cluster=c --zone=z --workload=w --tpu-type=v5litepod-256 "
        "--num-slices=2 --docker-image=registry/flavars:1 --max-restarts=50 "
        "--restart-on-exit-codes=75 --termination-grace-period-seconds=300 --env=XLA_FLAGS=--a "
        "'--command=exec python -m flavars_jax.main '\"'\"'--config.a=b c'\"'\"' "
        "--config.distributed.kind=tpu'\n"
    )


def test_other_actions_on_gke():
    image = launch("launch.gke image --dry_run --image=r/n:1 --accelerator=cuda12").stdout
    build, push = image.splitlines()
    assert build.startswith("docker build --file ") and build.count("launch/Containerfile ") == 1
    assert "--build-arg ACCELERATOR=cuda12 --tag r/n:1 " in build
    assert push == "docker push r/n:1"
    place = "--cluster=c --zone=z --project=p"
    expected = {
        "status": f"xpk workload list {place} --filter-by-job=w\n",
        "delete": f"xpk workload delete {place} --workload=w --force\n",
        "logs": "kubectl logs --selector=xpk.google.com/workload=w --prefix --tail=50 "
        "--max-log-requests=512\n",
    }
    for action, line in expected.items():
        assert launch(f"launch.gke {action} --dry_run {GKE} --project=p").stdout == line


def test_xpk_is_called_and_its_failure_told(tmp_path):
    xpk = FakePrograms(tmp_path, "xpk")
    line = f"launch.gke run {GKE} {SIZE} --chip=v5e -- true"
    assert launch(line, xpk.environment()).returncode == 0
    (call,) = xpk.calls()
    assert "'--env=LIBTPU_INIT_ARGS=--xla_tpu_" in call and "--command=exec true" in call
    xpk.answer(("workload create", [(1, "")]))
    failed = launch(line, xpk.environment())
    assert failed.returncode == 2 and "status 1 from: xpk workload create" in failed.stderr


# xpk runs the command like this (its 1.16 template): SIGTERM goes to the last background process.
XPK = """
_sigterm() (kill -SIGTERM $! 2>/dev/null;);
trap _sigterm SIGTERM;
({command}) & PID=$!;
while kill -0 $PID 2>/dev/null; do sleep 0.1; done;
wait $PID;
EXIT_CODE=$?;
exit $EXIT_CODE
"""


def test_sigterm_of_a_pod_reaches_the_run_under_xpk(tmp_path):
    # Two commands, so that the shell may not replace itself by the last one of its own accord.
    save = f"trap 'touch {tmp_path}/saved; exit 75' TERM; touch {tmp_path}/ready; "
    script = tmp_path / "run.sh"
    script.write_text(save + "while :; do sleep 0.1; done")
    command = XPK.format(command=f"exec bash {script}")
    process = subprocess.Popen(["bash", "-c", command])
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=30) == 75
    assert (tmp_path / "saved").exists()


def test_dry_run_of_slurm():
    line = f"launch.slurm --dry_run {SLURM} --partition=gpu --sbatch_flags='--mem=0 --exclusive'"
    result = launch(f"{line} -- python -m graft_jax.main --workdir=runs/g")
    assert result.stdout.splitlines()[0] == (
        "env XLA_FLAGS=--xla_gpu_enable_latency_hiding_scheduler=true "
        "XLA_PYTHON_CLIENT_MEM_FRACTION=0.92 LAUNCH_RESTARTS_PER_HOUR=6 LAUNCH_LOGS=logs "
        "sbatch --job-name=flavars --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 "
        "--cpus-per-task=8 --time=24:00:00 --signal=TERM@300 --requeue --export=ALL "
        "--open-mode=append --output=logs/%j.log --partition=gpu --mem=0 --exclusive "
        "launch/slurm.sbatch python -m graft_jax.main --workdir=runs/g "
        "--config.distributed.kind=slurm"
    )


def test_sbatch_is_called_with_the_settings_in_its_environment(tmp_path):
    sbatch = FakePrograms(tmp_path, "sbatch")
    line = f"launch.slurm {SLURM} --logs={tmp_path}/logs -- true"
    assert launch(line, sbatch.environment()).returncode == 0
    (call,) = sbatch.calls()
    assert call.endswith("launch/slurm.sbatch true --config.distributed.kind=slurm")
    assert (tmp_path / "logs").is_dir()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (f"launch.gke run --cluster=c --workload=w {SIZE} --chip=v5e -- true", "missing --zone"),
        (f"launch.gke run {GKE} --chip=v5e --tpu_type=t -- true", "missing --image"),
        (f"launch.gke run {GKE} {SIZE} --chip=v5e", "no command to run"),
        (f"launch.gke run --zone=z --workload=w {SIZE} --chip=v5e -- true", "missing --cluster"),
        ("launch.slurm --nodes=2 --time=1:00 --chip=none -- true", "missing --gpus_per_node"),
        (f"launch.slurm {SLURM}", "no command to run"),
        (f"launch.slurm {SLURM} --partitions=x -- true", "--partitions=x"),
    ],
)
def test_what_is_missing_is_one_line_and_status_2(line, complaint):
    result = launch(line)
    assert result.returncode == 2
    (error,) = result.stderr.splitlines()
    assert error.startswith("error: ") and complaint in error


class Job:
    """A job script with fake srun and scontrol."""

    def __init__(self, folder):
        self.folder = folder
        self.programs = FakePrograms(folder, "srun", "scontrol", "sleep")

    def start(self):
        own = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "LAUNCH_LOGS": str(self.folder)}
        own["SLURM_CPUS_PER_TASK"] = "5"
        python = os.path.dirname(sys.executable)
        path = {"PATH": f"{self.folder}{os.pathsep}{python}{os.pathsep}{os.environ['PATH']}"}
        own["LAUNCH_RESTARTS_PER_HOUR"] = "2"
        command = ["bash", str(SCRIPT), "python", "-m", "x"]
        log = (self.folder / "7.log").open("a")  # as sbatch's --output
        return subprocess.Popen(command, cwd=ROOT, env={**own, **path}, stdout=log)

    def run(self):
        process = self.start()
        process.communicate(timeout=60)
        return process.returncode

    def requeued(self):
        return [call for call in self.programs.calls() if "requeue" in call]


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def test_a_job_that_ends_with_75_is_queued_again(job):
    job.programs.answer(("srun", [(75, "")]), ("show job", [(0, "   JobState=RUNNING Reason=x")]))
    job.run()
    assert job.programs.calls()[0] == "srun --kill-on-bad-exit=0 --wait=360 python -m x"
    assert job.requeued() == ["scontrol requeue 7"]


def test_a_job_whose_task_was_killed_is_queued_again(job):
    job.programs.answer(("srun", [(137, "")]), ("show job", [(0, "   JobState=RUNNING")]))
    job.run()
    assert job.requeued() == ["scontrol requeue 7"]


def test_a_status_that_a_task_chose_counts_though_srun_tells_the_highest(job):
    said = "srun: error: n1: task 3: Exited with exit code 1\nsrun: error: n1: task 0: Killed\n"
    job.programs.answer(("srun", [(137, said)]), ("show job", [(0, "JobState=RUNNING")]))
    assert job.run() == 1
    assert job.requeued() == []


@pytest.mark.parametrize("status", [0, 2, 3, 130])
def test_a_job_that_ends_otherwise_is_not(job, status):
    job.programs.answer(("srun", [(status, "")]), ("show job", [(0, "JobState=RUNNING")]))
    assert job.run() == status
    assert job.requeued() == []


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "PENDING"])
def test_a_cancelled_job_stays_cancelled(job, state):
    job.programs.answer(("srun", [(75, "")]), ("show job", [(0, f"JobState={state}")]))
    assert job.run() == 75
    assert job.requeued() == []


def test_a_crash_loop_of_a_job_ends(job):
    job.programs.answer(("srun", [(75, "")]), ("show job", [(0, "JobState=RUNNING")]))
    statuses = [job.run() for _ in range(3)]
    assert len(job.requeued()) == 2 and statuses[-1] == 75
    times = job.folder / "7.restarts"
    times.write_text("1 75\n2 75\n3 75\n")  # long ago
    job.run()
    assert len(job.requeued()) == 3


def test_tasks_get_the_cores_that_the_job_asked_for(job):
    seen = job.folder / "seen"
    (job.folder / "srun").write_text(f"#!/bin/bash\necho $SRUN_CPUS_PER_TASK >{seen}\n")
    job.run()
    assert seen.read_text() == "5\n"


def test_a_signal_to_the_job_script_is_passed_on(job):
    job.programs.answer(("show job", [(0, "JobState=RUNNING")]))
    srun = job.folder / "srun"
    ready = job.folder / "ready"
    wait = f"touch {ready}; while :; do /bin/sleep 0.1; done"
    srun.write_text(f"#!/bin/bash\ntrap '/bin/sleep 0.3; exit 75' TERM\n{wait}\n")
    process = job.start()
    while not ready.exists():
        assert process.poll() is None
    process.terminate()
    process.communicate(timeout=30)
    assert job.requeued() == ["scontrol requeue 7"]
