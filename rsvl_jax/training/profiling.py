"""Traces of a few steps by JAX's profiler, of steps that the config names or when asked for."""

import contextlib
import signal
import tempfile
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import jax
from etils import epath

from rsvl_jax.errors import UserError
from rsvl_jax.training.checkpoint import disk_errors
from rsvl_jax.training.progress import say

FOLDER = "profile"


class Profiler:
    """Context in which steps are traced into `profile/` of the work directory, on every host.

    steps: first step of each trace; a SIGUSR1 to a process asks for one more, of that host, from
    its next step. length: steps in a trace. Outside the main thread no signal is caught.
    """

    def __init__(self, workdir: str, steps: Collection[int] = (), length: int = 3) -> None:
        """Raises UserError for steps or a length that no run has."""
        wrong = [step for step in steps if step < 1]
        if wrong or length < 1:
            raise UserError(
                f"profile.steps={tuple(steps)}, profile.length={length}: both count from 1"
            )
        self._folder = epath.Path(workdir) / FOLDER
        self._steps, self._length = frozenset(steps), length
        self._asked = False
        self._until: int | None = None  # the last step of the trace under way
        self._local: tempfile.TemporaryDirectory[str] | None = None
        self._previous: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGUSR1, self._ask)
        return self

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def before(self, step: int, settle: Callable[[], None]) -> None:
        """Begins a trace where one is due at `step`, after the steps under way (`settle`)."""
        if self._until is not None or not (self._asked or step in self._steps):
            return
        self._asked = False
        settle()
        local = tempfile.TemporaryDirectory(prefix="profile-")
        try:
            jax.profiler.start_trace(local.name, profiler_options=_options())
        except RuntimeError as error:  # another profiler is at work: no reason to end a run
            local.cleanup()
            say(f"no profile of step {step}: {error}")
            return
        self._local, self._until = local, step + self._length - 1

    def step(self, number: int) -> AbstractContextManager[Any]:
        """Around the start of a step: its name in a trace."""
        if self._until is None:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def after(self, step: int, settle: Callable[[], None]) -> None:
        """Ends the trace whose last step this is."""
        if self._until is not None and step >= self._until:
            settle()
            self._end()

    def _end(self) -> None:
        if self._local is None:
            return
        local, self._local, until = self._local, None, self._until
        self._until = None
        assert until is not None
        with local, disk_errors(self._folder):
            jax.profiler.stop_trace()
            _copy(Path(local.name), self._folder, f"steps_{until - self._length + 1}-{until}")
        say(f"profile up to step {until}: {self._folder}, to be opened with TensorBoard or XProf")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if self._previous is not None:
            signal.signal(signal.SIGUSR1, self._previous)


def _options() -> jax.profiler.ProfileOptions:
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # it slows the host down, and files grow by the minute
    return options


def _copy(source: Path, target: epath.Path, name: str) -> None:
    """Copies a trace to where it may be an object store, which the profiler does not write to.

    JAX calls it by the second in which it ended: two within one second would be one, and those of
    several hosts two. `name` takes its place.
    """
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        plugins, profile, _, *rest = file.relative_to(source).parts
        destination = target.joinpath(plugins, profile, name, *rest)
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(file.read_bytes())
