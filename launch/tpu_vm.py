"""Runs a command on a Cloud TPU VM, of one host or a whole pod slice, through gcloud.

    python -m launch.tpu_vm create  --tpu=NAME --zone=ZONE --accelerator_type=v5litepod-16 \\
                                    --runtime_version=v2-alpha-tpuv5-lite
    python -m launch.tpu_vm install --tpu=NAME --zone=ZONE
    python -m launch.tpu_vm run     --tpu=NAME --zone=ZONE --chip=v5e \\
                                    -- python -m flavars_jax.main --config=... --workdir=gs://...
    python -m launch.tpu_vm logs|stop|delete --tpu=NAME --zone=ZONE

`run` starts the command on all hosts at once and watches; it starts all of them again where
`launch.restarts` says so, and ends with the status of the run otherwise. For machines that come
back after a preemption see `launch.queued_resource`.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence

from launch import arguments, flags, pod
from launch.restarts import RUN_AGAIN, Restarts
from launch.shell import Shell
from rsvl_jax import runtime

ACTIONS = ("create", "install", "run", "logs", "stop", "delete")


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    options, command = _parse(argv)
    shell = Shell(options.dry_run)
    hosts = pod.Hosts(shell, "tpu-vm", options.tpu, place(options))
    if options.action == "create":
        shell.run(create_command(options))
    elif options.action == "install":
        pod.install(hosts)
    elif options.action == "run":
        job = make_job(options, arguments.require_command(command))
        return pod.detached(shell, _how_to_stop(options), lambda: _run(job, hosts))
    elif options.action == "delete":
        shell.run(delete_command(options))
    else:
        shell.run(hosts.ssh(f"{pod.ON_HOST} {verb(options)}"))
    return 0


def _run(job: pod.Job, hosts: pod.Hosts) -> int:
    try:
        return job.run(hosts)
    except pod.Lost:
        hosts.shell.say(f"{hosts.name} is gone or being repaired: create it again, install and run")
        return RUN_AGAIN


def create_command(options: argparse.Namespace) -> list[str]:
    """Returns the command that creates the TPU VM."""
    sizes = [
        f"--accelerator-type={arguments.require(options, 'accelerator_type')}",
        f"--version={arguments.require(options, 'runtime_version')}",
    ]
    spot = ["--spot"] if options.spot else []
    return [*_gcloud("create"), options.tpu, *place(options), *sizes, *spot, *extra(options)]


def delete_command(options: argparse.Namespace) -> list[str]:
    """Returns the command that deletes the TPU VM."""
    return [*_gcloud("delete"), options.tpu, *place(options), "--quiet"]


def verb(options: argparse.Namespace) -> str:
    """Returns what the hosts are to do for `logs` and `stop`."""
    if options.action == "logs":
        return f"log {options.run} {options.lines}"
    return f"stop {options.run}"


def place(options: argparse.Namespace) -> list[str]:
    """Returns the flags that say where: --zone, which must be known, and --project."""
    zone = arguments.require(options, "zone", "CLOUDSDK_COMPUTE_ZONE")
    project = [f"--project={options.project}"] if options.project else []
    return [f"--zone={zone}", *project]


def extra(options: argparse.Namespace) -> list[str]:
    """Returns further gcloud flags, as given by --gcloud_flags."""
    return shlex.split(options.gcloud_flags)


def make_job(options: argparse.Namespace, command: Sequence[str]) -> pod.Job:
    """Returns the run that the options ask for, with the compiler flags of its chip."""
    chip = arguments.require(options, "chip")
    settings = flags.passed_on(chip, os.environ)
    if not options.dry_run:
        flags.announce(chip, settings)
    watch = pod.Watch(options.poll, options.grace)
    restarts = Restarts(options.restarts_per_hour, time.monotonic)
    whole = [*command, *arguments.ON_TPU]
    return pod.Job(options.run, whole, settings, watch, restarts)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what TPU VMs and queued resources have in common."""
    arguments.add_place(parser)
    parser.add_argument("--accelerator_type", help="such as v5litepod-16, v5p-32, v6e-64")
    parser.add_argument("--runtime_version", help="such as v2-alpha-tpuv5-lite")
    parser.add_argument("--spot", action="store_true", help="cheaper machines, may be preempted")
    parser.add_argument("--gcloud_flags", default="", help="more flags for `create`, as one word")
    parser.add_argument("--chip", choices=flags.CHIPS, help="whose compiler flags `run` sets")
    parser.add_argument("--run", default="run", help="name of the run on the hosts (default run)")
    parser.add_argument("--lines", type=int, default=50, help="of each host's log (default 50)")
    parser.add_argument("--poll", type=float, default=60, help="seconds between questions")
    parser.add_argument(
        "--grace", type=float, default=360, help="seconds for the others when one host has ended"
    )
    arguments.add_restarts(parser)
    arguments.add_common(parser)


def _how_to_stop(options: argparse.Namespace) -> str:
    words = ["python", "-m", "launch.tpu_vm", "stop", f"--tpu={options.tpu}", *place(options)]
    return shlex.join([*words, f"--run={options.run}"])


def _gcloud(action: str) -> list[str]:
    return ["gcloud", "compute", "tpus", "tpu-vm", action]


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    own, command = arguments.split(argv)
    parser = arguments.Parser(prog="python -m launch.tpu_vm", description=__doc__)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--tpu", default=os.environ.get("TPU_NAME"), help="name of the TPU VM")
    add_options(parser)
    options = parser.parse_args(own)
    arguments.require(options, "tpu", "TPU_NAME")
    return options, command


def _run_and_exit() -> None:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(runtime.exit_status(_run_and_exit))
