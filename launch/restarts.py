"""When a run is started again, and when it is not. The same rule for every launcher.

| how the processes ended                          | start again?                        |
|--------------------------------------------------|-------------------------------------|
| a status that one of them chose, but 0 and 75    | no: 2 is bad input, others a defect |
| one by SIGKILL or SIGTERM: its machine was taken | yes, a few times an hour            |
| 75: preempted after a complete save, left alone  | yes, a few times an hour            |
| a crash: SIGSEGV, SIGABRT and the like           | once; not when it crashes once more |
| SIGINT and other signals that people send        | no                                  |
| all 0                                            | it is done                          |

A defect that is run again and again burns a pod and buries its own message. A killed process wrote
none, and left whole checkpoints: where a machine is lost, nobody is there to start again. A crash
may be a bad host's, or a lost coordinator's: JAX aborts all who cannot reach it (and its callback
for that cannot be used from Python: jaxlib 0.10 ends in std::bad_cast). A defect crashes again.
"""

import argparse
import re
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

DONE = 0
RUN_AGAIN = 75

HOUR = 3600.0
AGAIN = "again on status 75, when one was killed, and once after a crash"

_TAKEN = (128 + signal.SIGKILL, 128 + signal.SIGTERM)
_ABORTED = 128 + signal.SIGABRT
_CRASHED = tuple(
    128 + getattr(signal, f"SIG{name}") for name in ("SEGV", "BUS", "FPE", "ILL", "SYS", "TRAP")
)


class Verdict(NamedTuple):
    """Whether to start again, and why (not) in words."""

    again: bool
    why: str


class Restarts:
    """Bounds the restarts within any one hour, so that a crash loop cannot go on unseen.

    A pod needs minutes to come back (hosts, restore, compile), so six restarts in an hour leave
    about half of it for training; more often than that, something other than preemption is wrong.
    """

    def __init__(
        self, per_hour: int, clock: Callable[[], float], past: Sequence[tuple[float, int]] = ()
    ):
        """clock: seconds, such as `time.monotonic`; past: time and status of earlier restarts."""
        self._per_hour, self._clock = per_hour, clock
        self.past = list(past)

    def judge(self, status: int) -> Verdict:
        """Says whether a run that ended with `status`, of all (`combine`), starts again now.

        If so, it is counted.
        """
        crashes = (*_CRASHED, _ABORTED)
        crashed = status in crashes
        if status != RUN_AGAIN and not crashed:
            return Verdict(False, "not started again")
        if crashed and self.past and self.past[-1][1] in crashes:
            return Verdict(False, "a crash after a crash is a defect: not started again")
        now = self._clock()
        if sum(now - t < HOUR for t, _ in self.past) >= self._per_hour:
            why = "too many restarts within an hour (--restarts_per_hour): not started again"
            return Verdict(False, why)
        self.past.append((now, status))
        return Verdict(True, "starting again")


def combine(statuses: Sequence[int]) -> int:
    """Returns the status of a group of processes that train together, from those of its members.

    statuses: as shells (128 + N) or Python (-N) write the signal that ended one; without those whom
    the launcher itself killed, see `own`. A status that a program chose is never overruled, and
    comes before signals, because members that lose a peer are ended by signals after it. Next
    comes a member that was taken away: what the others then died of says nothing. One 75 is enough
    to run again: a member exits so after a checkpoint that all wrote, or left alone by a peer, and
    then it is the peer's end that counts if that was a crash.
    """
    found = [as_shell(status) for status in statuses]
    chosen = [s for s in found if 0 < s < 128 and s != RUN_AGAIN]
    if chosen:
        return chosen[0]
    if any(s in _TAKEN for s in found):
        return RUN_AGAIN
    crashed = [s for s in found if s in _CRASHED]
    if crashed:
        return crashed[0]
    if RUN_AGAIN in found:
        return RUN_AGAIN
    return next((s for s in found if s), DONE)


def without_own(statuses: Sequence[int], told: Collection[int]) -> list[int]:
    """Returns the statuses but of those members (indices) whom the launcher told to stop, and who
    were ended by that: their machines were not taken."""
    return [s for i, s in enumerate(statuses) if not (i in told and as_shell(s) in _TAKEN)]


def as_shell(status: int) -> int:
    """Returns a status as shells write it: 128 + N for a process that signal N ended (-N)."""
    return 128 - status if status < 0 else status


def describe(status: int) -> str:
    """Says what a status means, for people."""
    if status > 128 and status - 128 in {s.value for s in signal.Signals}:
        return f"{status} (ended by {signal.Signals(status - 128).name})"
    known = {DONE: "finished", 2: "bad input", RUN_AGAIN: "preempted, or a machine was lost"}
    return f"{status} ({known.get(status, 'a defect')})"


_START = re.compile(r"^launch: \S+ job .* start \d+:", re.MULTILINE)
_EXITED = re.compile(r"^srun: error: .*tasks? [^:]*: Exited with exit code (\d+)", re.MULTILINE)


def exit_codes(log: str) -> list[int]:
    """Returns what srun said of tasks in the last start of a job, for its own status hides them:
    of all tasks' the highest, that is, of signals."""
    start = max((match.end() for match in _START.finditer(log)), default=0)
    return [int(code) for code in _EXITED.findall(log[start:])]


def main(argv: Sequence[str]) -> int:
    """The judgement for `launch/slurm.sbatch`: 0 to start again, else the status to end with."""
    parser = argparse.ArgumentParser(prog="python -m launch.restarts")
    parser.add_argument("--per_hour", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True, help="of the job, with srun's words")
    parser.add_argument("--past", type=Path, required=True, help="file of the earlier restarts")
    parser.add_argument("status", type=int, help="srun's")
    options = parser.parse_args(argv)
    log = options.log.read_text(errors="replace") if options.log.exists() else ""
    lines = options.past.read_text().splitlines() if options.past.exists() else []
    past = [(float(t), int(status)) for t, status in (line.split() for line in lines)]
    status = combine([options.status, *exit_codes(log)])
    verdict = Restarts(options.per_hour, time.time, past).judge(status)
    print(f"launch: the run ended with status {describe(status)}: {verdict.why}", flush=True)
    if not verdict.again:
        return status
    with options.past.open("a") as file:
        file.write(f"{time.time():.0f} {status}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
