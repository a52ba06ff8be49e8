"""Compiler flags by chip generation, kept as data in `flags.toml` with a reason for each.

python -m launch.flags --chip=v5e             # a table
python -m launch.flags --chip=v5e --export    # lines for a shell: eval "$(...)"
"""

import argparse
import os
import shlex
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch import arguments
from rsvl_jax import runtime

FILE = Path(__file__).with_name("flags.toml")
CHIPS = ("v4", "v5e", "v5p", "v6e", "a100", "h100", "h200", "none")


@dataclass(frozen=True)
class Flag:
    """One setting of the compiler or of the accelerator's runtime.

    name: "--xla_..." inside a variable that holds many flags, or the variable's own name.
    variable: the environment variable it is written to. chips: the generations it is for.
    """

    name: str
    value: str
    variable: str
    chips: tuple[str, ...]
    reason: str
    source: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


def load(chip: str) -> list[Flag]:
    """Returns the flags for a chip generation of `CHIPS`; none for "none"."""
    tables = tomllib.loads(FILE.read_text())["flag"]
    flags = [Flag(**{**table, "chips": tuple(table["chips"])}) for table in tables]
    return [flag for flag in flags if chip in flag.chips]


def environment(chip: str, present: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables to set for a chip, whole: what is `present` comes first and wins.

    A variable that holds many flags gets those that it does not name yet; a variable that is
    itself the setting is left alone when present.
    """
    result: dict[str, str] = {}
    for flag in load(chip):
        value = result.get(flag.variable, present.get(flag.variable, ""))
        if flag.name == flag.variable:
            result[flag.variable] = value or flag.value
        elif flag.name not in _names(value):
            result[flag.variable] = f"{value} {flag}".strip()
        else:
            result[flag.variable] = value
    return result


def passed_on(chip: str, present: Mapping[str, str]) -> dict[str, str]:
    """Returns what a process on another machine needs: the chip's variables, and the user's own."""
    known = tomllib.loads(FILE.read_text())["variables"]
    own = {name: present[name] for name in known if present.get(name)}
    return {**own, **environment(chip, present)}


def _names(value: str) -> set[str]:
    return {word.split("=", 1)[0] for word in value.split()}


def table(chip: str) -> str:
    """Returns a Markdown table of the flags of a chip, with their reasons."""
    rows = [f"| `{flag}` | {flag.reason} | {flag.source} |" for flag in load(chip)]
    return "\n".join([f"| flag ({chip}) | reason | source |", "|---|---|---|", *rows])


def table_by_chip() -> str:
    """Returns the Markdown table of all flags against the chips that get them."""
    chips = [chip for chip in CHIPS if chip != "none"]
    flags = {str(flag): flag for chip in chips for flag in load(chip)}
    rows = [
        f"| `{text}` | {', '.join(flag.chips)} | {flag.reason} | {flag.source} |"
        for text, flag in flags.items()
    ]
    return "\n".join(["| flag | chips | reason | source |", "|---|---|---|---|", *rows])


def add_argument(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Adds --chip to a launcher's arguments; required unless there is a default."""
    parser.add_argument(
        "--chip",
        choices=CHIPS,
        default=default,
        required=default is None,
        help="generation whose compiler flags are set; none for none",
    )


def announce(chip: str, settings: Mapping[str, str]) -> None:
    """Says on stderr which settings a run gets."""
    lines = [f"  {name}={value}" for name, value in sorted(settings.items())] or ["  none"]
    print("\n".join([f"compiler settings for --chip={chip}:", *lines]), file=sys.stderr)


def main(argv: Sequence[str]) -> None:
    """Prints the flags of one chip."""
    parser = arguments.Parser(prog="python -m launch.flags", description=__doc__)
    add_argument(parser)
    parser.add_argument("--export", action="store_true", help="lines for a shell, not a table")
    options = parser.parse_args(argv)
    if not options.export:
        print(table(options.chip))
        return
    for name, value in environment(options.chip, os.environ).items():
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    sys.exit(runtime.exit_status(lambda: main(sys.argv[1:])))
