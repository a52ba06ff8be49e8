"""Files that a source names: one, a folder of them, a pattern, or braces: "{00..31}", "{a,b}"."""

import glob
import os
import re
from collections.abc import Sequence

from rsvl_jax.errors import UserError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def find(source: str, suffixes: Sequence[str]) -> list[str]:
    """Absolute paths in order; of a folder, all files below it with one of the suffixes.

    Raises UserError where there is none, or one that braces name is not there.
    """
    if os.path.isdir(source):
        found = sorted(
            os.path.join(folder, name)
            for folder, _, names in os.walk(source)
            for name in names
            if name.lower().endswith(tuple(suffixes))
        )
    elif os.path.isfile(source):
        found = [source]
    else:
        found = _named(source)
    if not found:
        raise UserError(f"--source={source!r}: there is no {' or '.join(suffixes)} file")
    return [os.path.abspath(path) for path in found]


def expand(pattern: str) -> list[str]:
    """The texts that braces stand for, "a{0..2}" and "{x,y}", in order."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    head, tail = pattern[: match.start()], expand(pattern[match.end() :])
    if numbers := _RANGE.fullmatch(match[1]):
        first, last = (int(text) for text in numbers.groups())
        width = len(numbers[1])
        options = [f"{number:0{width}}" for number in range(first, last + 1)]
    else:
        options = match[1].split(",")
    return [head + option + rest for option in options for rest in tail]


def _named(source: str) -> list[str]:
    paths = expand(source)
    if len(paths) == 1:
        return sorted(glob.glob(source, recursive=True))
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise UserError(
            f"--source={source!r}: {len(missing)} of {len(paths)} files are missing, the first "
            f"{missing[0]!r}"
        )
    return paths
