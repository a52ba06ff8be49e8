"""What was given to the command: by path or pattern, of one kind."""

import glob
import os
import re
from collections.abc import Callable, Sequence

from rsvl_jax.embed import files, shards
from rsvl_jax.embed.items import Input
from rsvl_jax.errors import UserError

_TABLES, _SHARDS = (".csv", ".tsv"), (".tar",)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
Scenes = Callable[[Sequence[str]], Input]


def find(given: Sequence[str], scenes: Scenes) -> Input:
    """A folder, a table, tar shards or scenes; `scenes` opens the last.

    Patterns are "*.tif" and WebDataset's "shard-{0000..0031}.tar". A folder of shards is taken as
    these. Raises UserError for what is not there, and for inputs of several kinds.
    """
    paths = [path for each in given for path in _paths(each)]
    if not paths:
        raise UserError("nothing to embed: give --input")
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1 or (len(paths) > 1 and kinds <= {"folder", "table"}):
        raise UserError(
            f"--input={paths[0]!r} and {len(paths) - 1} more: give one folder or one table, or any "
            "number of tar shards, or of scenes"
        )
    kind = kinds.pop()
    if kind == "folder":
        return files.folder(paths[0])
    if kind == "table":
        return files.table(paths[0])
    return shards.shards(paths) if kind == "shards" else scenes(paths)


def _kind(path: str) -> str:
    if os.path.isdir(path):
        return "folder"
    known = {_TABLES: "table", _SHARDS: "shards"}
    return next((kind for ends, kind in known.items() if path.endswith(ends)), "scenes")


def _paths(given: str) -> list[str]:
    """The files behind a path, a pattern or a folder of shards. Raises UserError for none."""
    if os.path.isdir(given):
        inside = sorted(glob.glob(os.path.join(glob.escape(given), "*.tar")))
        return inside or [given]
    remote = "://" in given or given.startswith("/vsi")
    if remote or all(map(os.path.exists, given.split(","))):
        return [given]
    found = [path for each in _expanded(given) for path in sorted(glob.glob(each, recursive=True))]
    if not found:
        raise UserError(f"nothing at --input={given!r}: give a folder, a table, shards or scenes")
    return found


def _expanded(pattern: str) -> list[str]:
    """{0000..0031} as each of its numbers."""
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = match[1], match[2]
    numbers = (str(n).zfill(len(first)) for n in range(int(first), int(last) + 1))
    parts = (pattern[: match.start()] + n + pattern[match.end() :] for n in numbers)
    return [path for part in parts for path in _expanded(part)]
