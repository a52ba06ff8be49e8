"""Writes a run's report again: `python -m rsvl_jax.report --workdir=runs/flavars`."""

import argparse
import sys

from rsvl_jax import report, runtime


def main() -> None:
    """Parses the command line, writes the report and prints its path."""
    parser = argparse.ArgumentParser(prog="python -m rsvl_jax.report", description=__doc__)
    parser.add_argument("--workdir", required=True, help="work directory of the run")
    print(report.write(parser.parse_args().workdir))


if __name__ == "__main__":
    sys.exit(runtime.exit_status(main))
