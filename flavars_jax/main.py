"""Trains FLAVARS: `python -m flavars_jax.main --config=configs/flavars.py --workdir=runs/flavars`.

The same command resumes the run, and says so when it is finished.
"""

import sys

from rsvl_jax import command, runtime


def run() -> None:
    """Parses the command line, starts JAX and hands over."""
    arguments = command.arguments()
    runtime.start(processes=arguments.config.distributed)
    # After `start`: importing it opens nothing yet, but what it imports may.
    from flavars_jax import experiment

    experiment.run(arguments.config, arguments.workdir)


if __name__ == "__main__":
    sys.exit(runtime.exit_status(run))
