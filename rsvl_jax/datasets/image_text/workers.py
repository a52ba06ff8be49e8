"""Work on all cores, or a cluster: a function of the job and of a task, for many tasks."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from rsvl_jax.data.workers import live_with_parent
from rsvl_jax.datasets.image_text import beam
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.errors import UserError

_AHEAD = 3  # tasks in flight a worker: enough to keep it busy, few to hold in memory

Task = TypeVar("Task")
Result = TypeVar("Result")


class Job(Protocol):
    """What all tasks share; pickled to every worker and opened there."""

    def open(self) -> None: ...


class Crew:
    """Worker processes, or this process alone, each with the job open."""

    def __init__(self, job: Any, pool: concurrent.futures.Executor | None, workers: int):
        self._job, self._pool, self._workers = job, pool, workers

    def run(
        self, function: Callable[[Any, Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]:
        """function(job, task) of every task, in order. UserError if a worker dies."""
        if self._pool is None:
            yield from (function(self._job, task) for task in tasks)
            return
        waiting: collections.deque[concurrent.futures.Future] = collections.deque()
        try:
            for task in tasks:
                waiting.append(self._pool.submit(_call, function, task))
                if len(waiting) == _AHEAD * self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except concurrent.futures.process.BrokenProcessPool as error:
            raise UserError(
                "a worker died, most likely for want of memory: use fewer --workers, and run the "
                "same command again to go on from here"
            ) from error


@contextlib.contextmanager
def crew(job: Job, options: Options) -> Iterator[Crew | beam.Beam]:
    """Those whom the options name. The job is opened in this process, too."""
    count = options.workers or len(os.sched_getaffinity(0))
    on_cluster = options.runner == "beam"
    closed = pickle.dumps(job) if count > 1 or on_cluster else b""
    job.open()
    if on_cluster:
        yield beam.Beam(job, closed, options.beam_options)
        return
    if count == 1:
        yield Crew(job, None, 1)
        return
    # a fork would copy the locks of threads
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(count, context, _start, (closed,))
    try:
        yield Crew(job, pool, count)
    finally:
        pool.shutdown(cancel_futures=True)


_job: Any = None  # of this worker process


def _start(closed: bytes) -> None:
    global _job
    live_with_parent()
    _job = pickle.loads(closed)
    _job.open()


def _call(function: Callable[[Any, Task], Result], task: Task) -> Result:
    return function(_job, task)
