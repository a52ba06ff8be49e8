"""Commands run some at a time, each on cores of its own, their output kept in files."""

import os
import queue
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed

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
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(commands), unit="run") as bar:
        waiting = {
            pool.submit(_one, command, free, _log(logs, name)): name
            for name, command in commands.items()
        }
        for done in as_completed(waiting):
            name = waiting[done]
            if done.cancelled():
                continue
            status = done.result()
            if status:
                pool.shutdown(wait=False, cancel_futures=True)
                raise UserError(
                    f"run {name} ended with status {status}: see {_log(logs, name)!r}, and give "
                    "the same command again"
                )
            bar.update()


def shares(cores: list[int], jobs: int) -> list[list[int]]:
    """The cores of each job: disjoint while there are enough of them."""
    return [cores[job::jobs] or [cores[job % len(cores)]] for job in range(jobs)]


def _one(command: list[str], free: "queue.SimpleQueue[str]", log: str) -> int:
    cores = free.get()
    try:
        with open(log, "ab") as file:
            return subprocess.call([*command, f"--cores={cores}"], stdout=file, stderr=file)
    finally:
        free.put(cores)


def _log(logs: str, name: str) -> str:
    return os.path.join(logs, f"{name}.txt")
