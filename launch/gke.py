"""Runs a command on TPU slices of a GKE cluster, through xpk (one JobSet a run).

    python -m launch.gke image  --image=REGISTRY/NAME:TAG [--accelerator=tpu|cuda12]
    python -m launch.gke run    --cluster=C --zone=Z --workload=NAME --tpu_type=v5litepod-256 \\
                                --image=... --chip=v5e -- python -m flavars_jax.main ...
    python -m launch.gke status|delete --cluster=C --zone=Z --workload=NAME
    python -m launch.gke logs   --workload=NAME

The cluster starts the run again, all pods of all slices together: JobSet re-creates every pod when
one ended with a status that xpk names, and fails the run for good on any other. We add 75 to xpk's
own list, which holds 42 and 127 to 255: pods that a signal ended, as those of a lost machine are.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from launch import arguments, flags
from launch.restarts import RUN_AGAIN
from launch.shell import Shell
from rsvl_jax import runtime

ROOT = Path(__file__).parents[1]
ACTIONS = ("image", "run", "status", "logs", "delete")


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    options, command = _parse(argv)
    shell = Shell(options.dry_run)
    for line in _commands(options, command):
        shell.run(line)
    return 0


def _commands(options: argparse.Namespace, command: Sequence[str]) -> list[list[str]]:
    if options.action == "image":
        return image_commands(options)
    if options.action == "run":
        return [run_command(options, arguments.require_command(command))]
    if options.action == "logs":
        return [logs_command(options)]
    return [status_command(options) if options.action == "status" else delete_command(options)]


def image_commands(options: argparse.Namespace) -> list[list[str]]:
    """Returns the commands that build the container image from this checkout and push it."""
    image = arguments.require(options, "image")
    file = ["--file", str(ROOT / "launch" / "Containerfile")]
    build = ["--build-arg", f"ACCELERATOR={options.accelerator}", "--tag", image, str(ROOT)]
    return [["docker", "build", *file, *build], ["docker", "push", image]]


def run_command(options: argparse.Namespace, command: Sequence[str]) -> list[str]:
    """Returns the command that creates the workload."""
    chip = arguments.require(options, "chip")
    settings = flags.passed_on(chip, os.environ)
    line = [
        *_xpk("create", options),
        f"--tpu-type={arguments.require(options, 'tpu_type')}",
        f"--num-slices={options.slices}",
        f"--docker-image={arguments.require(options, 'image')}",
        f"--max-restarts={options.max_restarts}",
        f"--restart-on-exit-codes={RUN_AGAIN}",
        f"--termination-grace-period-seconds={options.grace}",
        *(f"--env={name}={value}" for name, value in settings.items()),
        # xpk sends SIGTERM to the shell that it starts: `exec` makes that shell the run itself.
        f"--command=exec {shlex.join([*command, *arguments.ON_TPU])}",
    ]
    if not options.dry_run:
        flags.announce(chip, settings)
    return line


def status_command(options: argparse.Namespace) -> list[str]:
    """Returns the command that lists this workload."""
    workload = arguments.require(options, "workload")
    return [*_xpk("list", options, named=False), f"--filter-by-job={workload}"]


def logs_command(options: argparse.Namespace) -> list[str]:
    """Returns the command that prints the end of every pod's log."""
    workload = arguments.require(options, "workload")
    pods = f"--selector=xpk.google.com/workload={workload}"
    return [
        "kubectl",
        "logs",
        pods,
        "--prefix",
        f"--tail={options.lines}",
        "--max-log-requests=512",
    ]


def delete_command(options: argparse.Namespace) -> list[str]:
    """Returns the command that stops and deletes this workload."""
    return [*_xpk("delete", options), "--force"]


def _xpk(action: str, options: argparse.Namespace, named: bool = True) -> list[str]:
    zone = arguments.require(options, "zone", "CLOUDSDK_COMPUTE_ZONE")
    place = [f"--cluster={arguments.require(options, 'cluster', 'CLUSTER_NAME')}", f"--zone={zone}"]
    project = [f"--project={options.project}"] if options.project else []
    name = [f"--workload={arguments.require(options, 'workload')}"] if named else []
    return ["xpk", "workload", action, *place, *project, *name]


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    own, command = arguments.split(argv)
    parser = arguments.Parser(prog="python -m launch.gke", description=__doc__)
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--cluster", default=os.environ.get("CLUSTER_NAME"))
    arguments.add_place(parser)
    parser.add_argument("--workload", help="name of the run; new for every `run`")
    parser.add_argument("--image", help="container image, with its registry and tag")
    parser.add_argument("--accelerator", choices=("tpu", "cuda12"), default="tpu")
    parser.add_argument("--tpu_type", help="such as v5litepod-256, v5p-128, v6e-256")
    parser.add_argument("--slices", type=int, default=1, help="number of TPU slices (default 1)")
    parser.add_argument("--chip", choices=flags.CHIPS, help="whose compiler flags are set")
    parser.add_argument(
        "--max_restarts",
        type=int,
        default=50,
        help="in all: a JobSet counts no hours. 50 is a preemption every three hours for a week; a "
        "crash loop is one of statuses 75 and 127 to 255 only (default 50)",
    )
    parser.add_argument(
        "--grace", type=int, default=300, help="seconds for the save after SIGTERM (default 300)"
    )
    parser.add_argument("--lines", type=int, default=50, help="of each pod's log (default 50)")
    arguments.add_common(parser)
    return parser.parse_args(own), command


def _run_and_exit() -> None:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(runtime.exit_status(_run_and_exit))
