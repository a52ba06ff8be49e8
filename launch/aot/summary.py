"""The checked-in reports as one table: python -m launch.aot.summary

Other reports: python -m launch.aot.summary FILE.json ...
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.aot.report import summary
from rsvl_jax import runtime
from rsvl_jax.errors import UserError

REPORTS = Path(__file__).parents[1] / "reports"


def main(argv: Sequence[str]) -> None:
    """Prints a line for each report."""
    paths = [Path(path) for path in argv] or sorted(REPORTS.glob("*.json"))
    print(summary(map(_read, paths)))


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the report {str(path)!r}: {error}") from error


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: main(sys.argv[1:])))
