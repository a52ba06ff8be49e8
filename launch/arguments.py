"""The command lines of launchers: their own options, then `--`, then the command to run."""

import argparse
import os
from collections.abc import Sequence
from typing import NoReturn

from rsvl_jax.errors import UserError

# Not left to detection: hosts that do not find their pod must not train each on its own.
ON_TPU = ("--config.distributed.kind=tpu",)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line and status 2, and that never abbreviates."""

    def __init__(self, **settings):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=formatter, **settings)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the launcher's own options, and the command after the first `--`."""
    words = list(argv)
    if "--" not in words:
        return words, []
    cut = words.index("--")
    return words[:cut], words[cut + 1 :]


def require_command(command: Sequence[str]) -> list[str]:
    """Returns the command, which must be there.

    Raises:
      UserError: nothing after `--`.
    """
    if not command:
        raise UserError(
            "no command to run: end with `-- python -m flavars_jax.main --config=... --workdir=...`"
        )
    return list(command)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Adds what every launcher takes."""
    parser.add_argument(
        "--dry_run", action="store_true", help="print every command instead of running it"
    )


def add_restarts(parser: argparse.ArgumentParser) -> None:
    """Adds the bound on restarts, see `launch.restarts`."""
    parser.add_argument(
        "--restarts_per_hour",
        type=int,
        default=6,
        help="stop after more restarts than this within an hour (default 6)",
    )


def add_place(parser: argparse.ArgumentParser) -> None:
    """Adds --zone and --project, which default to gcloud's own environment variables."""
    parser.add_argument("--zone", default=os.environ.get("CLOUDSDK_COMPUTE_ZONE"))
    parser.add_argument("--project", default=os.environ.get("CLOUDSDK_CORE_PROJECT"))


def require(options: argparse.Namespace, name: str, variable: str | None = None) -> str:
    """Returns an option that must be set.

    Raises:
      UserError: it is not; the line names the option, and the variable that would also do.
    """
    value = getattr(options, name)
    if not value:
        also = f" or set {variable}" if variable else ""
        raise UserError(f"missing --{name}: give --{name}=...{also}")
    return value
