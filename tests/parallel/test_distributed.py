"""How processes find one another, with the environments that clusters give them."""

import os
import random
import subprocess
import sys

import jax
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.parallel import distributed

START = """
import sys
from rsvl_jax.parallel import distributed
distributed.start(kind=sys.argv[1], timeout_s=60)
assert distributed.running() and distributed.everywhere(True)
assert distributed.from_first(sys.argv[2]) == "0"
"""


def slurm(process):
    """Of srun, for two tasks on one node."""
    return {
        "SLURM_JOB_ID": str(JOB),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def gke(process):
    """Of two TPU slices of one host on GKE; JAX takes this machine for a TPU host."""
    return {
        "JAX_FORCE_TPU_INIT": "1",
        "JAX_COORDINATOR_PORT": str(61440 + JOB % 4096),
        "TPU_SKIP_MDS_QUERY": "true",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
        "MEGASCALE_COORDINATOR_ADDRESS": "localhost",
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": str(process),
    }


# JAX makes the port of a SLURM job from its number.
JOB = random.randrange(1 << 20)


def clean():
    return {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("SLURM_", "TPU_", "JAX_", "MEGASCALE_"))
    }


@pytest.mark.parametrize(("kind", "environment"), [("slurm", slurm), ("tpu", gke)])
def test_processes_of_a_cluster_find_one_another(kind, environment):
    both = [
        subprocess.Popen(
            [sys.executable, "-c", START, kind, str(process)],
            env={**clean(), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
            | environment(process),
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    told = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    for process, text in enumerate(told):
        (line,) = [each for each in text.splitlines() if each.startswith("process ")]
        assert line.startswith(f"process {process} of 2 on ")
        assert line.endswith(": 2 of 4 cpu devices")


@pytest.fixture
def joined(monkeypatch):
    """What JAX is asked to join; nothing is joined."""
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: asked.append(given))
    monkeypatch.setattr(distributed, "_introduce", lambda: None)
    for name in ("SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES", "MEGASCALE_NUM_SLICES"):
        monkeypatch.delenv(name, raising=False)
    before = jax.config.jax_cpu_collectives_implementation
    yield asked
    jax.config.update("jax_cpu_collectives_implementation", before)


@pytest.mark.parametrize(
    ("name", "value", "several"),
    [
        ("SLURM_STEP_NUM_TASKS", "1", False),
        ("SLURM_STEP_NUM_TASKS", "8", True),
        ("TPU_WORKER_HOSTNAMES", "host-0", False),
        ("TPU_WORKER_HOSTNAMES", "host-0,host-1", True),
        ("MEGASCALE_NUM_SLICES", "2", True),
        ("SLURM_NTASKS", "8", False),  # the shell of a batch job, which srun did not start
    ],
)
def test_only_what_names_several_processes_counts(name, value, several, joined, monkeypatch):
    monkeypatch.setenv(name, value)
    distributed.start(kind="auto")
    assert bool(joined) == several


def test_explicit_processes_and_their_time_limit(joined):
    distributed.start(coordinator="10.0.0.1:8476", processes=4, process=3, timeout_s=30)
    (asked,) = joined
    assert asked["coordinator_address"] == "10.0.0.1:8476"
    assert (asked["num_processes"], asked["process_id"]) == (4, 3)
    assert asked["cluster_detection_method"] == "deactivate"
    assert asked["initialization_timeout"] > 30  # ours comes first, with a line
    distributed.start(kind="explicit", coordinator="10.0.0.1:8476", processes=1, process=0)
    distributed.start(kind="none", coordinator="10.0.0.1:8476")
    assert len(joined) == 1


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"kind": "mpi"}, "distributed.kind='mpi' is unknown"),
        ({"kind": "explicit"}, "distributed.coordinator=None: give HOST:PORT"),
        ({"coordinator": "host"}, "distributed.coordinator='host'"),
        ({"coordinator": "h:1", "processes": 2}, "distributed.process=None"),
        ({"coordinator": "h:1", "processes": 2, "process": 2}, "distributed.process=2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, complaint, joined):
    with pytest.raises(UserError, match=complaint):
        distributed.start(**given)
    assert not joined


@pytest.mark.parametrize("kind", ["tpu", "slurm"])
def test_a_host_that_does_not_find_its_pod_never_trains_alone(kind):
    call = f"from rsvl_jax.parallel import distributed; distributed.start(kind={kind!r})"
    ended = subprocess.run(
        [sys.executable, "-c", call], env=clean(), capture_output=True, text=True, timeout=120
    )
    assert ended.returncode != 0
    assert f"cannot join the run's processes (distributed.kind={kind})" in ended.stderr


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        # As they were seen where a peer was killed, on CPUs and at a barrier.
        ("FAILED_PRECONDITION: Buffer Definition Event: Gloo all-reduce failed: Read error", True),
        ("UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task", True),
        ("UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):\n1", True),
        ("NCCL operation failed: remote process exited or there was a network error", True),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes", False),
        ("INVALID_ARGUMENT: shapes do not match", False),
    ],
)
def test_losing_a_peer_is_told_from_defects(text, lost):
    try:
        try:
            raise RuntimeError(text)
        except RuntimeError as cause:
            raise ValueError("in a step") from cause
    except ValueError as error:
        assert distributed.is_loss_of_peer(error) == lost
