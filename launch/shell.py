"""Runs the commands of a launcher, or prints them, quoted for a shell, in a dry run."""

import shlex
import subprocess
import sys
from collections.abc import Sequence

from rsvl_jax.errors import UserError


class Shell:
    """Runs commands; with `dry_run` prints them on stdout and runs nothing."""

    def __init__(self, dry_run: bool):
        self.dry_run = dry_run

    def run(self, command: Sequence[str]) -> None:
        """Runs a command to its end.

        Raises:
          UserError: the program is missing, or ends with a status other than 0.
        """
        if status := self._status(command):
            raise UserError(f"status {status} from: {shlex.join(command)}")

    def attempt(self, command: Sequence[str]) -> bool:
        """Runs a command that may fail; True if its status is 0."""
        return self._status(command) == 0

    def output(self, command: Sequence[str]) -> str:
        """Returns what a command writes on stdout, whatever its status; "" in a dry run."""
        return self._captured(command)[1]

    def answer(self, command: Sequence[str]) -> str | None:
        """Returns what a command writes on stdout, None if it failed; "" in a dry run."""
        status, text = self._captured(command)
        return None if status else text

    def say(self, text: str) -> None:
        """Tells a person what happens: a comment line in a dry run, a line on stderr otherwise."""
        if self.dry_run:
            print(f"# {text}")
        else:
            print(f"launch: {text}", file=sys.stderr, flush=True)

    def _status(self, command: Sequence[str]) -> int:
        if self._printed(command):
            return 0
        try:
            return subprocess.run(command).returncode
        except FileNotFoundError as error:
            raise _missing(command) from error

    def _captured(self, command: Sequence[str]) -> tuple[int, str]:
        if self._printed(command):
            return 0, ""
        try:
            result = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        except FileNotFoundError as error:
            raise _missing(command) from error
        return result.returncode, result.stdout

    def _printed(self, command: Sequence[str]) -> bool:
        print(shlex.join(command), file=sys.stdout if self.dry_run else sys.stderr, flush=True)
        return self.dry_run


def _missing(command: Sequence[str]) -> UserError:
    return UserError(f"no program {command[0]!r} on PATH: install it first (see docs/pods.md)")
