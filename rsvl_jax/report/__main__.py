"""Writes a run's report again, or sets runs side by side.

python -m rsvl_jax.report --workdir=runs/flavars
python -m rsvl_jax.report --compare runs/a runs/b --output=compare.html
"""

import argparse
import sys

from rsvl_jax import report, runtime
from rsvl_jax.errors import UserError
from rsvl_jax.report import compare


def main() -> None:
    """Parses the command line, writes the page and prints its path."""
    parser = argparse.ArgumentParser(
        prog="python -m rsvl_jax.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", help="work directory of the run")
    parser.add_argument("--compare", nargs="+", metavar="WORKDIR", help="runs to set side by side")
    parser.add_argument("--output", default="compare.html", help="of --compare [compare.html]")
    given = parser.parse_args()
    if (given.workdir is None) == (given.compare is None):
        raise UserError("give either --workdir=DIR, or --compare DIR DIR")
    if given.compare is None:
        print(report.write(given.workdir))
    else:
        print(compare.write(given.compare, given.output), f"comparison: {given.output}", sep="\n\n")


if __name__ == "__main__":
    sys.exit(runtime.exit_status(main))
