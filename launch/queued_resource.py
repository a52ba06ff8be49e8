"""Runs a command on TPUs that are queued for, and queued for again after a preemption.

    python -m launch.queued_resource run --name=NAME --zone=ZONE --accelerator_type=v6e-64 \\
        --runtime_version=v2-alpha-tpuv6e --spot --chip=v6e -- python -m flavars_jax.main ...
    python -m launch.queued_resource logs|stop|delete --name=NAME --zone=ZONE

`run` does everything, from nothing to the end of the run: it asks for the machines, waits for them,
installs the code, runs on all hosts and watches. When the machines are taken away, it deletes what
is left, asks anew and goes on. Every step looks first at what is there, so the same command may be
started again at any time, and then takes up where things stand. `--slices=N` asks for N slices.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from launch import arguments, pod, tpu_vm
from launch.restarts import RUN_AGAIN
from launch.shell import Shell
from rsvl_jax import runtime
from rsvl_jax.errors import UserError

ACTIONS = ("run", "logs", "stop", "delete")
# What a request may be in, see the states of cloud.google.com/tpu/docs/queued-resources.
WAITING = ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING")
GOING = ("SUSPENDING", "DELETING")
OVER = ("SUSPENDED", "FAILED")


@dataclass(frozen=True)
class Request:
    """A queued resource: `slices` TPU slices of one type, or none yet."""

    shell: Shell
    options: argparse.Namespace

    def state(self) -> str:
        """Returns the state of the request, "" if there is none.

        Raises:
          UserError: Cloud TPU could not be asked.
        """
        command = pod.state_command("queued-resources", self.options.name, self._place())
        state = self.shell.answer(command)
        if state is None:
            raise UserError("gcloud failed (see above): is it logged in, and the zone right?")
        return state.strip()

    def create_command(self) -> list[str]:
        """Returns the command that asks for the slices."""
        options = self.options
        nodes = [f"--node-id={options.name}"]
        if options.slices > 1:
            nodes = [f"--node-count={options.slices}", f"--node-prefix={options.name}"]
        sizes = [
            f"--accelerator-type={arguments.require(options, 'accelerator_type')}",
            f"--runtime-version={arguments.require(options, 'runtime_version')}",
        ]
        spot = ["--spot"] if options.spot else []
        more = [*sizes, *spot, *tpu_vm.extra(options)]
        return [*_gcloud("create"), options.name, *self._place(), *nodes, *more]

    def delete_command(self) -> list[str]:
        """Returns the command that deletes the request and its machines."""
        return [*_gcloud("delete"), self.options.name, *self._place(), "--force", "--quiet"]

    def hosts(self) -> pod.Hosts:
        """Returns the hosts of all slices."""
        kind = "queued-resources" if self.options.slices > 1 else "tpu-vm"
        return pod.Hosts(self.shell, kind, self.options.name, self._place())

    def _place(self) -> list[str]:
        return tpu_vm.place(self.options)


def obtain(request: Request, watch: pod.Watch) -> bool:
    """Waits until the machines are there, asking for them where that is needed.

    Returns:
      whether they are new (nothing is installed on them).

    Raises:
      UserError: the request just made failed: it cannot be granted as it is.
    """
    fresh, unready = False, 0
    while True:
        state = request.state()
        if state == "ACTIVE":
            if request.hosts().ready() is not False:
                return fresh
            # Between a preemption and SUSPENDING, or after a repair that does not come to an end.
            unready += 1
        request.shell.say(f"queued resource {request.options.name}: {state or 'none yet'}")
        if not state:
            request.shell.run(request.create_command())
            fresh = True
        elif state in OVER or unready > pod.SILENT_POLLS:
            _refuse_failure(request, state, fresh)
            request.shell.run(request.delete_command())
            unready = 0
        elif state not in ("ACTIVE", *WAITING, *GOING):
            raise UserError(f"unknown state {state!r} of queued resource {request.options.name!r}")
        if request.shell.dry_run:
            request.shell.say("its state is asked for again until it is ACTIVE; then:")
            return fresh
        watch.sleep(watch.poll)


def _refuse_failure(request: Request, state: str, fresh: bool) -> None:
    if state == "FAILED" and fresh:
        name = request.options.name
        why = f"gcloud compute tpus queued-resources describe {name}"
        raise UserError(f"the request {name!r} FAILED: `{why}` says why; delete it, then ask anew")


def run(request: Request, job: pod.Job) -> int:
    """Runs the job on the machines, and on new ones when they were taken; returns its status."""
    while True:
        fresh = obtain(request, job.watch)
        hosts = request.hosts()
        try:
            if fresh or not installed(hosts):
                pod.install(hosts)
            return job.run(hosts)
        except pod.Lost:
            pass
        except UserError:
            # A command that failed because the machines went away while it ran.
            if hosts.ready() is not False:
                raise
        request.shell.say("the machines were taken away: asking for new ones")
        if not job.may_restart(request.shell):
            return RUN_AGAIN


def installed(hosts: pod.Hosts) -> bool:
    """Whether every host has the code and its environment."""
    return hosts.shell.attempt(hosts.ssh("test -x launch/venv/bin/python"))


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    options, command = _parse(argv)
    shell = Shell(options.dry_run)
    request = Request(shell, options)
    if options.action == "run":
        job = tpu_vm.make_job(options, arguments.require_command(command))
        request.create_command()  # What is missing for it is said before anything is done.
        return pod.detached(shell, _how_to_stop(options), lambda: run(request, job))
    if options.action == "delete":
        shell.run(request.delete_command())
    else:
        shell.run(request.hosts().ssh(f"{pod.ON_HOST} {tpu_vm.verb(options)}"))
    return 0


def _gcloud(action: str) -> list[str]:
    return ["gcloud", "compute", "tpus", "queued-resources", action]


def _how_to_stop(options: argparse.Namespace) -> str:
    own = ["python", "-m", "launch.queued_resource", "stop", f"--name={options.name}"]
    return shlex.join([*own, *tpu_vm.place(options), f"--run={options.run}"])


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    own, command = arguments.split(argv)
    parser = arguments.Parser(prog="python -m launch.queued_resource", description=__doc__)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--name", default=os.environ.get("TPU_NAME"), help="of request and TPU")
    parser.add_argument("--slices", type=int, default=1, help="number of TPU slices (default 1)")
    tpu_vm.add_options(parser)
    options = parser.parse_args(own)
    arguments.require(options, "name", "TPU_NAME")
    return options, command


def _run_and_exit() -> None:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(runtime.exit_status(_run_and_exit))
