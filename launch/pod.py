"""Runs a command on every host of a TPU pod, and again after a loss: all hosts or none.

The hosts are reached by `gcloud ... ssh`, and a run is detached from that connection
(`launch/on_host.sh`): a lost connection loses no run, and watching may stop and start again.
"""

import shlex
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launch.restarts import AGAIN, RUN_AGAIN, Restarts, combine, describe, without_own
from launch.shell import Shell
from rsvl_jax.errors import UserError

ROOT = Path(__file__).parents[1]
ON_HOST = "bash launch-code/launch/on_host.sh"
ARCHIVE = "launch-code.tar.gz"
# Polls in a row without an answer from every host, while the pod is said to be well.
SILENT_POLLS = 10


class Lost(Exception):
    """The pod itself is gone or going: what ran on it cannot be asked any more."""


@dataclass(frozen=True)
class Hosts:
    """The hosts of a pod. Commands run on all of them at once.

    kind: "tpu-vm", or "queued-resources" for several slices. name: of the TPU VM, or of the queued
    resource. place: --zone=..., --project=... .
    """

    shell: Shell
    kind: str
    name: str
    place: Sequence[str]

    def ssh(self, remote: str) -> list[str]:
        """Returns the command that runs `remote`, a shell line, on every host."""
        return [*self._gcloud("ssh"), self.name, *self._everywhere(), f"--command={remote}"]

    def scp(self, file: str) -> list[str]:
        """Returns the command that copies a local file to every host, as `ARCHIVE`."""
        return [*self._gcloud("scp"), file, f"{self.name}:{ARCHIVE}", *self._everywhere()]

    def ready(self) -> bool | None:
        """Whether the pod can run; None if that cannot be found out now."""
        state = self.shell.answer(state_command(self.kind, self.name, self.place))
        ready = "ACTIVE" if self.kind == "queued-resources" else "READY"
        return None if state is None else state.strip() == ready

    def reports(self, run: str) -> dict[str, str]:
        """Returns what each host says of a run: "running", "ended N" or "lost". May miss hosts."""
        text = self.shell.output(self.ssh(f"{ON_HOST} status {run}"))
        if self.shell.dry_run:
            return {"every host": "ended 0"}
        found = [line.split(maxsplit=2) for line in text.splitlines()]
        return {w[1]: w[2] for w in found if len(w) == 3 and w[0] == "launch-host"}

    def _gcloud(self, verb: str) -> list[str]:
        return ["gcloud", "compute", "tpus", self.kind, verb]

    def _everywhere(self) -> list[str]:
        nodes = ["--node=all"] if self.kind == "queued-resources" else []
        return [*nodes, "--worker=all", *self.place]


def state_command(kind: str, name: str, place: Sequence[str]) -> list[str]:
    """Returns the command that prints the state of one pod, and nothing if there is none.

    A list that may be empty tells a missing pod from a failed call; `describe` fails for both.
    """
    value = "state.state" if kind == "queued-resources" else "state"
    wanted = [f"--filter=name~/{name}$", f"--format=value({value})"]
    return ["gcloud", "compute", "tpus", kind, "list", *place, *wanted]


def install(hosts: Hosts, extra: str = "tpu") -> None:
    """Copies the committed code to every host and makes its environment there.

    Raises:
      UserError: not a git checkout, or a host could not be reached or set up.
    """
    with tempfile.TemporaryDirectory() as folder:
        # A fixed name in a dry run: what is printed is then the same each time.
        archive = ARCHIVE if hosts.shell.dry_run else str(Path(folder) / ARCHIVE)
        output = f"--output={archive}"
        hosts.shell.run(["git", "-C", str(ROOT), "archive", "--format=tar.gz", output, "HEAD"])
        hosts.shell.run(hosts.scp(archive))
    unpack = f"mkdir -p launch-code && tar -xzf {ARCHIVE} -C launch-code"
    hosts.shell.run(hosts.ssh(f"{unpack} && {ON_HOST} install {extra}"))


@dataclass
class Watch:
    """How a run on a pod is watched.

    poll: seconds between two questions. grace: seconds that hosts have to end once one has ended,
    before they are told to stop; as long again, and they are killed.
    """

    poll: float
    grace: float
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)


def start(hosts: Hosts, run: str, command: Sequence[str], settings: Mapping[str, str]) -> None:
    """Starts a run on every host where it does not run yet."""
    words = ["env", *(f"{name}={value}" for name, value in settings.items()), *command]
    hosts.shell.run(hosts.ssh(f"{ON_HOST} start {run} -- {shlex.join(words)}"))


def wait(hosts: Hosts, run: str, watch: Watch) -> int:
    """Waits until a run has ended on every host and returns the status of all.

    A host that has lost its run (it was started anew) makes the whole run one to start again.

    Raises:
      Lost: the pod is no longer ready.
      UserError: hosts do not answer although the pod is ready.
    """
    seen: set[str] = set()
    silent = 0
    ending = _Ending(hosts, run, watch)
    while True:
        reports = hosts.reports(run)
        seen |= reports.keys()
        complete = bool(reports) and len(reports) == len(seen)
        if complete and "running" not in reports.values():
            return _outcome(reports, ending.told)
        silent = 0 if complete else silent + _silent(hosts)
        if silent > SILENT_POLLS:
            which = ", ".join(sorted(seen - reports.keys())) or "all hosts"
            raise UserError(f"no answer from {which} of {hosts.name!r}: try the ssh command above")
        ending.hasten(reports)
        watch.sleep(watch.poll)


def _silent(hosts: Hosts) -> int:
    """Returns 1 if hosts are silent in a pod that is well, 0 if nothing can be asked at all.

    Raises:
      Lost: the pod is not ready.
    """
    ready = hosts.ready()
    if ready is False:
        raise Lost(hosts.name)
    return 1 if ready else 0


class _Ending:
    """Tells the hosts that are left to stop when one has ended, then kills them.

    told: the names of those.
    """

    def __init__(self, hosts: Hosts, run: str, watch: Watch):
        self.told: set[str] = set()
        self._hosts, self._run, self._watch = hosts, run, watch
        self._since: float | None = None
        self._verbs = ["stop", "end"]

    def hasten(self, reports: Mapping[str, str]) -> None:
        running = {host for host, report in reports.items() if report == "running"}
        if len(running) == len(reports) or not self._verbs:
            return
        now = self._watch.clock()
        self._since = now if self._since is None else self._since
        if now - self._since > self._watch.grace:
            verb = self._verbs.pop(0)
            self.told |= running
            self._hosts.shell.say(f"some hosts have ended, others have not: {verb} them all")
            self._hosts.shell.attempt(self._hosts.ssh(f"{ON_HOST} {verb} {self._run}"))
            self._since = now


def _outcome(reports: Mapping[str, str], told: Collection[str]) -> int:
    if "lost" in reports.values():
        return RUN_AGAIN
    statuses = [int(report.split()[1]) for report in reports.values()]
    return combine(without_own(statuses, [i for i, host in enumerate(reports) if host in told]))


@dataclass
class Job:
    """A command to run on a pod under a name, its settings, and how it is watched and bounded."""

    name: str
    command: Sequence[str]
    settings: Mapping[str, str]
    watch: Watch
    restarts: Restarts

    def run(self, hosts: Hosts) -> int:
        """Runs on all hosts, again on all as `launch.restarts` says; returns the last status.

        Raises:
          Lost: the pod is gone.
        """
        while True:
            start(hosts, self.name, self.command, self.settings)
            status = wait(hosts, self.name, self.watch)
            if hosts.shell.dry_run:
                hosts.shell.say(f"asked until all hosts have ended; then all {AGAIN}")
                return status
            hosts.shell.say(f"the run ended on all hosts: status {describe(status)}")
            if not self.may_restart(hosts.shell, status):
                return status

    def may_restart(self, shell: Shell, status: int = RUN_AGAIN) -> bool:
        """Whether to start again after that status; if so, it is counted."""
        verdict = self.restarts.judge(status)
        shell.say(verdict.why)
        return verdict.again


def detached(shell: Shell, how_to_stop: str, watch: Callable[[], int]) -> int:
    """Runs `watch`; Ctrl-C ends the watching only, and says how to go on."""
    try:
        return watch()
    except KeyboardInterrupt:
        shell.say("no longer watching; the run goes on. The same command watches it again.")
        shell.say(f"to stop it: {how_to_stop}")
        return 130
