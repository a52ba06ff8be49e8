"""Embeds the ground photos of the training split once, for all students of a work directory.

    python -m graft_jax.cache_ground --config=configs/graft.py --workdir=runs/graft

`graft_jax.main` does it as well; by itself it can run beforehand, on other machines. The same
command goes on where it was stopped.
"""

import sys

from rsvl_jax import command, runtime


def run() -> None:
    """Parses the command line, starts JAX and hands over."""
    arguments = command.arguments()
    runtime.start()
    from graft_jax.experiment import Experiment

    experiment = Experiment.open(arguments.config, arguments.workdir)
    experiment.teach()
    cache = experiment.cache("train")
    print(f"{cache.photos:,} ground photos embedded by the tower {experiment.teacher.fingerprint}")


if __name__ == "__main__":
    sys.exit(runtime.exit_status(run))
