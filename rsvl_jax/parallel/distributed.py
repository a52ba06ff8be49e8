"""Several processes as one run: how they find one another, and how they agree.

Hosts of a TPU pod, tasks of a SLURM job and processes at an explicit coordinator are joined by
`jax.distributed`. Nothing here opens a backend before they are.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rsvl_jax.errors import UserError

KINDS = ("auto", "none", "tpu", "slurm", "explicit")

# JAX's names. Its "tpu" is a base class that finds nothing; it looks for the pods of GKE and those
# of TPU VMs by itself, and is an error where it finds neither.
_DETECTION = {"explicit": "deactivate", "slurm": "slurm", "tpu": None}
# JAX ends the process with SIGABRT when its own time-out is over: ours comes first, with a line.
_JAX_MARGIN_S = 60
# What JAX and the transports of its collectives say when a peer has gone.
_LOST = (
    "Gloo ",
    "Connection closed by peer",
    "Connection reset by peer",
    "Socket closed",
    "Barrier ",
    "coordination service",
    "CoordinationServiceError",
    "stopped sending heartbeats",
    "remote process exited or there was a network error",  # NCCL's ncclRemoteError
)
_MEETING_MS = 24 * 3600 * 1000  # a stall is the watchdog's affair


def start(
    *,
    kind: str = "auto",
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout_s: float = 300.0,
) -> None:
    """Joins the processes of a run; to be called before any use of a backend.

    kind: "none": this process alone. "tpu": the hosts of a TPU pod, as its metadata tell. "slurm":
    the tasks of a job step. "explicit": `processes` of which this is number `process`, meeting at
    `coordinator`, HOST:PORT of process 0. "auto": explicit where there is a coordinator, else a
    multi-host TPU or SLURM step that the environment names, else none.

    Each process prints one line when all are there. Raises UserError for settings that make no
    sense. When the others are not there after `timeout_s`, the process ends with one line and
    status 75, as one of them may have been preempted before it came: JAX waits in native code,
    which no exception can leave.
    """
    if kind == "auto":
        kind = _detect(coordinator)
    where = _address(kind, coordinator, processes, process)
    if kind == "none" or (kind == "explicit" and processes == 1):
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    with _time_limit(timeout_s, where, alone=process == 0):
        try:
            jax.distributed.initialize(
                coordinator_address=coordinator,
                num_processes=processes,
                process_id=process,
                cluster_detection_method=_DETECTION[kind],
                initialization_timeout=int(timeout_s) + _JAX_MARGIN_S,
            )
        except (RuntimeError, ValueError, OSError, LookupError) as error:
            raise UserError(
                f"cannot join the run's processes {where}: {_one_line(error)}"
            ) from error
    _introduce()


def _detect(coordinator: str | None) -> str:
    """What "auto" stands for. Only what names several processes counts: a laptop stays alone."""
    if coordinator:
        return "explicit"
    slices = os.environ.get("MEGASCALE_NUM_SLICES", "1")
    if "," in os.environ.get("TPU_WORKER_HOSTNAMES", "") or slices != "1":
        return "tpu"
    # Set by srun for the tasks that it starts, not for the shell of a batch job.
    if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        return "slurm"
    return "none"


def _address(kind: str, coordinator: str | None, processes: int | None, process: int | None) -> str:
    """Where the processes meet, as text. Raises UserError for settings that do not fit."""
    if kind not in KINDS:
        raise UserError(f"distributed.kind={kind!r} is unknown: use one of {', '.join(KINDS)}")
    if kind != "explicit":
        return f"(distributed.kind={kind})"
    host, _, port = (coordinator or "").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"distributed.coordinator={coordinator!r}: give HOST:PORT of process 0, "
            "e.g. 10.0.0.1:8476"
        )
    if processes is None or process is None or not 0 <= process < processes:
        raise UserError(
            f"distributed.process={process} of distributed.processes={processes}: "
            "give both, with 0 <= process < processes"
        )
    return f"at distributed.coordinator={coordinator}"


@contextmanager
def _time_limit(seconds: float, where: str, alone: bool) -> Iterator[None]:
    """Ends the process with status 75 and one line if the body takes longer."""
    done = threading.Event()

    def watch() -> None:
        if not done.wait(seconds):
            who = "other processes of the run have not come" if alone else "no answer"
            _end(
                f"{who} {where} within distributed.timeout_s={seconds:g}: start all of them "
                "again, and check the address and that its port is open"
            )

    threading.Thread(target=watch, name="distributed-time-limit", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _end(text: str) -> None:
    print(f"left alone: {text}", file=sys.stderr, flush=True)
    os._exit(75)


def _introduce() -> None:
    import jax

    print(
        f"process {jax.process_index()} of {jax.process_count()} on {socket.gethostname()}: "
        f"{jax.local_device_count()} of {jax.device_count()} {jax.default_backend()} devices",
        file=sys.stderr,
        flush=True,
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def running() -> bool:
    """Whether this is one of several processes. It opens no backend."""
    if "jax" not in sys.modules:
        return False
    import jax

    return jax.distributed.is_initialized() and jax.process_count() > 1


def from_first(value: Any) -> Any:
    """Process 0's value on every process: all act on it, whatever the others see.

    value: plain JSON, only looked at on process 0. To be called by all processes.
    """
    if not running():
        return value
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    text = json.dumps(value).encode() if jax.process_index() == 0 else b""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    content = np.frombuffer(text or bytes(size), np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(content)).tobytes())


def everywhere(ok: bool) -> bool:
    """Whether `ok` holds on every process. To be called by all processes."""
    if not running():
        return ok
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(np.all(multihost_utils.process_allgather(np.array(ok))))


def wait_for_all(what: str) -> None:
    """Returns when every process has come to this call; `what` says where that is.

    The devices take no part: their transports have time limits of their own (30 s on CPUs), and a
    process may compile for minutes longer than another.
    """
    global _meetings
    if running():
        # Orbax meets this way, too. What is public in JAX meets on the devices.
        from jax._src.distributed import global_state

        _meetings += 1
        client: Any = global_state.client
        client.wait_at_barrier(f"{what} ({_meetings})", timeout_in_ms=_MEETING_MS)


_meetings = 0
_looks = 0


def stop_reached() -> bool:
    """Whether all processes stop here, because one of them was told to (SIGTERM).

    To be called by all processes equally often; it costs no communication until there is a notice.
    JAX's own handler takes the notice, passes it on, and lets all agree on one of the coming calls.
    """
    global _looks
    from jax.experimental import multihost_utils

    _looks += 1
    return multihost_utils.reached_preemption_sync_point(_looks)


def is_loss_of_peer(error: BaseException) -> bool:
    """Whether an error means that another process of the run has ended."""
    seen: BaseException | None = error
    while seen is not None:
        if any(word in str(seen) for word in _LOST):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
