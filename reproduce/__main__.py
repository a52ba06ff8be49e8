"""Trains the peers of FLAVARS and GRAFT with equal budgets, and writes the page about the claims.

    python -m reproduce --workdir=runs/claims --page=docs/claims.md

Run by run: what is finished is kept as small JSON in RESULTS, and the same command again goes on
from where it stands, inside a run too. On CPUs each run has cores of its own: two runs on two cores
are done sooner than one after the other on both.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from reproduce import page, plan, result, workers
from rsvl_jax import runtime
from rsvl_jax.errors import UserError


def main() -> None:
    """Parses the command line, trains what is missing and writes the page."""
    flags = arguments()
    size = plan.SIZES[flags.size]
    wanted = plan.chosen(plan.runs(size), flags.only)
    results = flags.results or os.path.join(flags.workdir, "results")
    missing = [run for run in wanted if not finished(run, results, flags.split)]
    if flags.list:
        for run in wanted:
            print(f"{run.name:32} {'missing' if run in missing else 'finished'}")
        return
    print(f"{len(missing)} of {len(wanted)} runs to do, {flags.jobs} at a time", flush=True)
    commands = {run.name: command(run, flags, results) for run in missing}
    workers.run(commands, jobs=flags.jobs, logs=os.path.join(flags.workdir, "logs"))
    found = [result.read(results, run.name) for run in wanted]
    print(f"page: {page.write(flags.page, [each for each in found if each is not None], size)}")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/claims", help="of all runs [%(default)s]")
    parser.add_argument("--results", help="folder of results [WORKDIR/results]")
    parser.add_argument("--page", help="[WORKDIR/claims.md]")
    parser.add_argument("--data_dir", default="data", help="of the embedded data [%(default)s]")
    parser.add_argument("--size", choices=plan.SIZES, default="small", help="[%(default)s]")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--only", action="append", default=[], metavar="RUN|GROUP")
    parser.add_argument("--jobs", type=int, default=workers.default_jobs(), help="[%(default)s]")
    parser.add_argument("--list", action="store_true", help="say what is finished, and stop")
    flags = parser.parse_args(argv)
    if flags.jobs < 1:
        raise UserError(f"--jobs={flags.jobs}: give at least 1")
    flags.page = flags.page or os.path.join(flags.workdir, "claims.md")
    return flags


def finished(run: plan.Run, results: str, split: str) -> bool:
    """Whether a run's result is there, and of this recipe and split.

    Raises UserError where it is of another one: it would be lost.
    """
    found = result.read(results, run.name)
    if found is None:
        return False
    if (found.recipe, found.split) != (run.recipe(), split):
        raise UserError(
            f"{run.name} in {results!r} is the result of another recipe or split: give another "
            "--workdir, or remove the file"
        )
    return True


def command(run: plan.Run, flags: argparse.Namespace, results: str) -> list[str]:
    """That trains and scores one run."""
    options = {
        "run": run.name,
        "size": flags.size,
        "split": flags.split,
        "workdir": flags.workdir,
        "results": results,
        "data_dir": flags.data_dir,
    }
    own = [sys.executable, "-m", "reproduce.train"]
    return [*own, *(f"--{name}={value}" for name, value in options.items())]


if __name__ == "__main__":
    sys.exit(runtime.exit_status(main))
