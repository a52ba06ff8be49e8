"""The work of a build on a cluster, as Apache Beam pipelines on the user's runner."""

import importlib.util
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rsvl_jax.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")


class Beam:
    """A crew (see `workers.Crew`) of Beam's workers: each pass of a build is one pipeline.

    What a task finds and writes lies in files, so source and data directory must be where every
    worker sees them; the result of a task that is done is read from there.
    """

    def __init__(self, job: Any, closed: bytes, options: Sequence[str]):
        """job: open in this process. closed: the same before it was opened, pickled."""
        self._job, self._closed, self._options = job, closed, list(options)

    def run(
        self, function: Callable[[Any, Task], Result], tasks: Iterable[Task]
    ) -> Iterator[Result]:
        """function(job, task) of every task, in order."""
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions

        given = list(tasks)
        with apache_beam.Pipeline(options=PipelineOptions(self._options)) as pipeline:
            _ = (
                pipeline
                | "Tasks" >> apache_beam.Create([pickle.dumps(task) for task in given])
                | "Spread" >> apache_beam.Reshuffle()
                | "Work" >> apache_beam.ParDo(_worker(self._closed, function))
            )
        yield from (function(self._job, task) for task in given)


def _worker(closed: bytes, function: Callable[[Any, Any], Any]) -> Any:
    import apache_beam

    class Worker(apache_beam.DoFn):
        """Has a job of its own: the runner never calls one from two threads at once."""

        def setup(self) -> None:
            self._job = pickle.loads(closed)
            self._job.open()

        def process(self, task: bytes) -> Iterator[None]:
            function(self._job, pickle.loads(task))
            yield from ()

    return Worker()


def require() -> None:
    """Raises UserError if apache-beam is not installed."""
    if importlib.util.find_spec("apache_beam") is None:
        page = os.path.join("docs", "pairs.md")
        raise UserError(
            f"--runner=beam needs apache-beam: {page} says how to install it beside the pins"
        )
