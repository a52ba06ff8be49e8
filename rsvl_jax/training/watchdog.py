"""Ends a process that no longer gets on, so that no host of a pod hangs for ever."""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType
from typing import Self

from rsvl_jax.errors import UserError

STALLED = 70  # the exit status; EX_SOFTWARE of sysexits.h


class Watchdog:
    """Context in which nothing may take longer than `seconds` without a word; 0: no limit.

    When it barks, the stacks of all threads are written to stderr and the process ends with status
    70, without cleaning up: a collective that waits for a lost host can be left in no other way.
    """

    def __init__(self, seconds: float) -> None:
        """Raises UserError for a negative limit."""
        if seconds < 0:
            raise UserError(f"watchdog.seconds={seconds} must be 0 (no limit) or more")
        self._seconds = seconds
        self._doing = "start"
        self._since = time.monotonic()
        self._left = threading.Event()

    def now(self, doing: str) -> None:
        """Says what begins now, and starts the clock anew."""
        self._doing, self._since = doing, time.monotonic()

    def __enter__(self) -> Self:
        if self._seconds:
            self.now(self._doing)
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()

    def _watch(self) -> None:
        while not self._left.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() - self._since > self._seconds:
                self._bark()

    def _bark(self) -> None:
        print(
            f"stalled: {self._doing} takes longer than watchdog.seconds={self._seconds:g}; "
            "the stacks of all threads follow, status 70",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        os._exit(STALLED)
