"""SIGTERM and Ctrl-C as a request to stop at the next step."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from rsvl_jax.parallel import distributed


class StopSignal:
    """Context in which SIGTERM, or the first SIGINT, only sets `requested`.

    A second Ctrl-C interrupts as usual. Outside the main thread, where Python allows no handlers,
    nothing is caught. Among several processes SIGTERM is left to JAX, which passes it on to all,
    and the first SIGINT becomes one: ask `agreed`.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            ours = () if distributed.running() else (signal.SIGTERM,)
            for number in (*ours, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if distributed.running():
                os.kill(os.getpid(), signal.SIGTERM)

    def agreed(self) -> bool:
        """Whether to stop here: the same on all processes, which must call it equally often."""
        return distributed.stop_reached() if distributed.running() else self.requested

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
