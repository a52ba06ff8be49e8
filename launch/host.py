"""Runs a command on one host, on all its accelerators, and again where `launch.restarts` says so.

    python -m launch.host --chip=h200 -- python -m flavars_jax.main --config=... --workdir=...
    python -m launch.host --chip=h200 --processes=8 -- python -m flavars_jax.main ...

One process drives all GPUs, or `--processes=N` start one process for each of the first N: Python
then costs each GPU its own core instead of all of them one. The processes find one another at
127.0.0.1 by the `config.distributed.*` keys, which are added to the command; they start, stop and
start again together.

SIGTERM and SIGINT are passed on to every process, and are the end: nothing starts again after one.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from launch import arguments, flags
from launch.restarts import AGAIN, Restarts, combine, describe, without_own
from launch.shell import Shell
from rsvl_jax import runtime
from rsvl_jax.errors import UserError

POLL_SECONDS = 0.2
KILL_SECONDS = 30.0
GPUS = ("a100", "h100", "h200")


class Group:
    """Processes that train together: when one ends, the others have `grace` seconds to follow."""

    def __init__(self, grace: float, clock: Callable[[], float] = time.monotonic):
        self._grace, self._clock = grace, clock
        self._running: list[subprocess.Popen] = []
        self.told_to_stop = False

    def run(
        self, commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]]
    ) -> list[int]:
        """Runs one process a command to their ends and returns their statuses.

        Left out are processes that were ended because they did not follow the first.

        Raises:
          UserError: there is no such program.
        """
        for command, environment in zip(commands, environments, strict=True):
            # Sessions of their own: Ctrl-C on a terminal must reach them once, through us.
            try:
                process = subprocess.Popen(command, env=dict(environment), start_new_session=True)
            except FileNotFoundError as error:
                raise UserError(f"no program {command[0]!r} on PATH") from error
            self._running.append(process)
        statuses = self._wait(self._running)
        self._running = []
        return statuses

    def pass_on(self, number: int, frame: object = None) -> None:
        """Signal handler: sends the signal to every process and marks the run as stopped."""
        self.told_to_stop = True
        self._signal(number)

    def _wait(self, processes: Sequence[subprocess.Popen]) -> list[int]:
        first_end: float | None = None
        sent: int | None = None
        told: set[int] = set()
        while any(process.poll() is None for process in processes):
            time.sleep(POLL_SECONDS)
            if first_end is None and any(p.poll() is not None for p in processes):
                first_end = self._clock()
            late = 0.0 if first_end is None else self._clock() - first_end - self._grace
            wanted = signal.SIGKILL if late > KILL_SECONDS else signal.SIGTERM
            if late > 0 and sent != wanted:
                told |= {i for i, process in enumerate(processes) if process.poll() is None}
                self._signal(wanted)
                sent = wanted
        return without_own([process.returncode for process in processes], told)

    def _signal(self, number: int) -> None:
        for process in self._running:
            if process.poll() is None:
                process.send_signal(number)


def commands(command: Sequence[str], processes: int, port: int) -> list[list[str]]:
    """Returns the command of each process, which is the command itself if there is one process."""
    if processes == 1:
        return [list(command)]
    shared = [
        "--config.distributed.kind=explicit",
        f"--config.distributed.coordinator=127.0.0.1:{port}",
        f"--config.distributed.processes={processes}",
    ]
    return [[*command, *shared, f"--config.distributed.process={i}"] for i in range(processes)]


def environments(
    chip: str, processes: int, present: Mapping[str, str]
) -> list[tuple[dict[str, str], dict[str, str]]]:
    """Returns, for each process, what is added to the environment, and the whole of it."""
    added = flags.environment(chip, present)
    result = []
    for index in range(processes):
        own = dict(added)
        if processes > 1 and chip in GPUS:
            # JAX's own variable: CUDA still sees all GPUs, which NCCL wants for NVLink, and
            # CUDA_VISIBLE_DEVICES of the user's keeps its meaning (the index counts within it).
            own["JAX_CUDA_VISIBLE_DEVICES"] = str(index)
        result.append((own, {**present, **own}))
    return result


def supervise(
    group: Group, run: Callable[[], Sequence[int]], restarts: Restarts, say: Callable[[str], None]
) -> int:
    """Runs a group, again as `launch.restarts` says, and returns the status of the last time."""
    while True:
        status = combine(run())
        say(f"all processes ended: status {describe(status)}")
        if group.told_to_stop:
            return status
        verdict = restarts.judge(status)
        say(verdict.why)
        if not verdict.again:
            return status


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    own, command = arguments.split(argv)
    parser = arguments.Parser(prog="python -m launch.host", description=__doc__)
    flags.add_argument(parser)
    parser.add_argument("--processes", type=int, default=1, help="one a GPU, or 1 for all GPUs")
    parser.add_argument("--port", type=int, default=8476, help="of the coordinator, if processes")
    parser.add_argument(
        "--grace",
        type=float,
        default=360,
        help="seconds for the others when one process has ended; JAX itself notices a lost peer "
        "after 100 s and waits for a slow one for 300 s (default 360)",
    )
    arguments.add_restarts(parser)
    arguments.add_common(parser)
    options = parser.parse_args(own)
    if options.processes < 1:
        raise UserError(f"--processes={options.processes}: at least 1")
    return options, arguments.require_command(command)


def main(argv: Sequence[str]) -> int:
    """Returns the status of the run."""
    options, command = _parse(argv)
    lines = commands(command, options.processes, options.port)
    settings = environments(options.chip, options.processes, os.environ)
    shell = Shell(options.dry_run)
    if options.dry_run:
        for (own, _), line in zip(settings, lines, strict=True):
            print(shlex.join(["env", *(f"{k}={v}" for k, v in own.items()), *line]))
        shell.say(f"together; {AGAIN}")
        return 0
    flags.announce(options.chip, settings[0][0])
    group = Group(options.grace)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, group.pass_on)
    restarts = Restarts(options.restarts_per_hour, time.monotonic)
    whole = [environment for _, environment in settings]
    return supervise(group, lambda: group.run(lines, whole), restarts, shell.say)


def _run_and_exit() -> None:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(runtime.exit_status(_run_and_exit))
