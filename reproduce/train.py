"""One run, from its recipe to its result: `python -m reproduce.train --run=NAME ...`.

Killed at any moment, the same command goes on from the newest checkpoint.
"""

import argparse
import json
import os
import sys

from ml_collections import ConfigDict

from reproduce import plan, result
from rsvl_jax import runtime
from rsvl_jax.errors import UserError


def main() -> None:
    """Parses the command line, starts JAX and hands over."""
    flags = arguments()
    if flags.cores:  # before JAX counts them
        os.sched_setaffinity(0, {int(core) for core in flags.cores.split(",")})
    run = plan.chosen(plan.runs(plan.SIZES[flags.size]), [flags.run])[0]
    config = run.config(flags.data_dir)
    runtime.start(processes=config.distributed)
    workdir = os.path.join(flags.workdir, "runs", run.name)
    make = _graft if run.graft else _peer
    result.write(flags.results, make(run, config, workdir, flags.split))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True)
    parser.add_argument("--size", choices=plan.SIZES, default="small")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--results", required=True, help="folder of the result")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--cores", help="numbers of the CPU cores to run on, such as 0,1 [all]")
    return parser.parse_args()


def _peer(run: plan.Run, config: ConfigDict, workdir: str, split: str) -> result.Result:
    from flavars_jax.experiment import Experiment

    experiment = Experiment.open(config, workdir)
    state = experiment.train()
    samples = config.training.steps * config.data.batch_size
    return result.of_cards(
        run,
        experiment.score(state, split, untrained=False),
        split=split,
        steps=config.training.steps,
        flops=samples * experiment.objective.flops_per_sample(),
        seconds=training_seconds(workdir),
    )


def _graft(run: plan.Run, config: ConfigDict, workdir: str, split: str) -> result.Result:
    from graft_jax import teacher
    from graft_jax.experiment import Experiment
    from rsvl_jax.objectives.image_text import ImageTextObjective

    experiment = Experiment.open(config, workdir)
    experiment.teach()
    students = {seed: experiment.train(seed) for seed in config.seeds}
    own = teacher.recipe(config)
    objectives = (own, ImageTextObjective(own)), (config, experiment.objective)
    folders = ("teacher", *(f"seed{seed}" for seed in config.seeds))
    return result.of_cards(
        run,
        experiment.score(students, split),
        split=split,
        steps=config.training.steps,
        flops=sum(
            each.training.steps * each.data.batch_size * objective.flops_per_sample()
            for each, objective in objectives
        ),
        seconds=sum(training_seconds(os.path.join(workdir, folder)) for folder in folders),
    )


def training_seconds(workdir: str) -> float:
    """Seconds of the steps that a finished run consists of, whatever was done twice."""
    path = os.path.join(workdir, "goodput.json")
    try:
        with open(path, encoding="utf-8") as file:
            productive = json.load(file)["productive"]
        return float(max(productive.values(), default=0.0))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path!r} does not say how long the run took: {error}") from error


if __name__ == "__main__":
    sys.exit(runtime.exit_status(main))
