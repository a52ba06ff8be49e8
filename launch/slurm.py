"""Submits a run to a SLURM cluster of GPUs: one process a GPU, again after a preemption.

    python -m launch.slurm --nodes=4 --gpus_per_node=8 --time=24:00:00 --chip=h100 \\
        -- python -m flavars_jax.main --config=... --workdir=...

The job is `launch/slurm.sbatch`. It goes back to the queue, as the same job, where
`launch.restarts` says so: after SIGTERM some minutes before the time limit, at a preemption or at a
maintenance (status 75), or when a task was killed.
Run from the checkout, in the environment that the job shall use, on a file system that all nodes
see. Options of sbatch that are not named here go into --sbatch_flags.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from launch import arguments, flags
from launch.shell import Shell
from rsvl_jax import runtime

SCRIPT = Path("launch") / "slurm.sbatch"


def main(argv: Sequence[str]) -> int:
    """Returns the exit status."""
    options, command = _parse(argv)
    shell = Shell(options.dry_run)
    settings = flags.environment(options.chip, os.environ)
    line = submit_command(options, settings, command)
    if not options.dry_run:
        flags.announce(options.chip, settings)
        Path(options.logs).mkdir(parents=True, exist_ok=True)
    shell.run(line)
    shell.say(f"logs: {options.logs}/JOB.log · stop: scancel JOB · state: squeue --me")
    return 0


def submit_command(
    options: argparse.Namespace, settings: dict[str, str], command: Sequence[str]
) -> list[str]:
    """Returns the sbatch command of a run."""
    places = ("partition", "account", "qos")
    chosen = [f"--{name}={getattr(options, name)}" for name in places if getattr(options, name)]
    return [
        # Jobs inherit sbatch's own environment (--export=ALL): values may hold commas.
        *("env", *(f"{name}={value}" for name, value in settings.items())),
        f"LAUNCH_RESTARTS_PER_HOUR={options.restarts_per_hour}",
        f"LAUNCH_LOGS={options.logs}",
        "sbatch",
        f"--job-name={options.name}",
        f"--nodes={arguments.require(options, 'nodes')}",
        # JAX under SLURM gives each process the one GPU of its local number, and must see all.
        f"--ntasks-per-node={arguments.require(options, 'gpus_per_node')}",
        f"--gpus-per-node={options.gpus_per_node}",
        f"--cpus-per-task={options.cpus_per_task}",
        f"--time={arguments.require(options, 'time')}",
        f"--signal=TERM@{options.notice}",
        "--requeue",
        "--export=ALL",
        "--open-mode=append",
        f"--output={options.logs}/%j.log",
        *chosen,
        *shlex.split(options.sbatch_flags),
        str(SCRIPT),
        *command,
        "--config.distributed.kind=slurm",
    ]


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    own, command = arguments.split(argv)
    parser = arguments.Parser(prog="python -m launch.slurm", description=__doc__)
    parser.add_argument("--nodes", type=int, help="number of nodes")
    parser.add_argument("--gpus_per_node", type=int, help="GPUs, and processes, on each node")
    parser.add_argument("--cpus_per_task", type=int, default=8, help="for each GPU (default 8)")
    parser.add_argument("--time", help="limit for one go, such as 24:00:00; the run may need many")
    parser.add_argument("--name", default="flavars", help="job name (default flavars)")
    for place in ("partition", "account", "qos"):
        parser.add_argument(f"--{place}", help="as for sbatch")
    parser.add_argument(
        "--notice", type=int, default=300, help="seconds before the limit to save in (default 300)"
    )
    parser.add_argument("--logs", default="logs", help="folder of the job logs (default logs)")
    parser.add_argument("--sbatch_flags", default="", help="more flags for sbatch, as one word")
    flags.add_argument(parser)
    arguments.add_restarts(parser)
    arguments.add_common(parser)
    return parser.parse_args(own), arguments.require_command(command)


def _run_and_exit() -> None:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(runtime.exit_status(_run_and_exit))
