"""When a run is started again, and when it is not. The same rule for every launcher.

A process that was preempted has saved a complete checkpoint and exits 75: run it again. Any other
status but 0 needs a person: 2 is bad input, anything else a defect, and a defect that is run again
burns a pod and buries its own message.
"""

import signal
from collections.abc import Callable, Sequence

DONE = 0
RUN_AGAIN = 75

HOUR = 3600.0


class Restarts:
    """Bounds the restarts within any one hour, so that a crash loop cannot go on unseen.

    A pod needs minutes to come back (hosts, restore, compile), so six restarts in an hour leave
    about half of it for training; more often than that, something other than preemption is wrong.
    """

    def __init__(self, per_hour: int, clock: Callable[[], float]):
        """clock: seconds, such as `time.monotonic`."""
        self._per_hour, self._clock = per_hour, clock
        self._times: list[float] = []

    def allow(self) -> bool:
        """Counts a restart now; False if it would be one too many within the last hour."""
        now = self._clock()
        self._times = [t for t in self._times if now - t < HOUR]
        if len(self._times) >= self._per_hour:
            return False
        self._times.append(now)
        return True


def combine(statuses: Sequence[int]) -> int:
    """Returns the status of a group of processes that train together, from those of its members.

    A member exits 75 only after a checkpoint that all members wrote, so one 75 is enough to run
    the group again, though others may then die of the loss of their peers: by a signal, -N or
    128 + N. A status that a program chose (1 to 127) is never overruled. Of several statuses such
    a one comes before signals, because members that lose a peer are ended by signals after it.
    """
    chosen = [s for s in statuses if 0 < s < 128 and s != RUN_AGAIN]
    if chosen:
        return chosen[0]
    if RUN_AGAIN in statuses:
        return RUN_AGAIN
    return next((s for s in map(as_shell, statuses) if s), DONE)


def as_shell(status: int) -> int:
    """Returns a status as shells write it: 128 + N for a process that signal N ended (-N)."""
    return 128 - status if status < 0 else status


def describe(status: int) -> str:
    """Says what a status means, for people."""
    if status > 128 and status - 128 in {s.value for s in signal.Signals}:
        return f"{status} (ended by {signal.Signals(status - 128).name})"
    known = {DONE: "finished", 2: "bad input", RUN_AGAIN: "preempted after a complete save"}
    return f"{status} ({known.get(status, 'a defect')})"
