"""Commands run some at a time, each on cores of its own, their output kept in files."""

import os
import queue
import subprocess
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from rsvl_jax.errors import UserError

_ACCELERATORS = ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0")


def default_jobs() -> int:
    """One a core; one in all where there seems to be an accelerator, which runs would share."""
    if any(os.path.exists(path) for path in _ACCELERATORS):
        return 1
    return len(os.sched_getaffinity(0))


def run(commands: Mapping[str, list[str]], *, jobs: int, logs: str) -> None:
    """Runs each to its end, `jobs` at a time, in order; LOGS/NAME.txt takes what it says.

    Raises UserError for the first one that fails; those that have begun are waited for, those that
    have not are left.
    """
    os.makedirs(logs, exist_ok=True)
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for cores in shares(sorted(os.sched_getaffinity(0)), jobs):
        free.put(",".join(map(str, cores)))
    failed = threading.Event()

    def one(name: str) -> int:
        cores = free.get()
        if failed.is_set():
            free.put(cores)
            return 0
        with open(_log(logs, name), "ab") as file:
            command = [*commands[name], f"--cores={cores}"]
            status = subprocess.call(command, stdout=file, stderr=file)
        if status:
            failed.set()
        free.put(cores)
        return status

    with ThreadPoolExecutor(jobs) as pool:
        statuses = pool.map(one, commands)
        for name, status in zip(commands, tqdm(statuses, total=len(commands)), strict=True):
            if status:
                raise UserError(
                    f"run {name} ended with status {status}: see {_log(logs, name)!r}, and give "
                    "the same command again"
                )


def shares(cores: list[int], jobs: int) -> list[list[int]]:
    """The cores of each job: disjoint while there are enough of them."""
    return [cores[job::jobs] or [cores[job % len(cores)]] for job in range(jobs)]


def _log(logs: str, name: str) -> str:
    return os.path.join(logs, f"{name}.txt")
