"""Answers on disk: JSON lines that are only ever added to, and are there when the power goes."""

import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.storage import replace_file

# What is valid; what is not, with its reason; what could not be asked, and will be again.
KINDS = ("journal", "invalid", "failed")
SOURCE = "source.json"


class Journal:
    """The files of one folder, opened by one process at a time.

    source: what the answers are about and how they were asked for; a folder of others is refused.

    Raises UserError for a folder that another process writes to, one of another source, and a file
    with a broken line inside. A last line that was torn by a kill is taken back.
    """

    def __init__(self, folder: str, source: Mapping[str, Any]):
        self._folder = pathlib.Path(folder)
        os.makedirs(folder, exist_ok=True)
        self._lock = _lock(folder)
        try:
            self._check_source(source)
            self.torn = sum(_mend(self._path(kind)) for kind in KINDS)
        except BaseException:
            os.close(self._lock)
            raise
        self._files = {kind: self._path(kind).open("ab") for kind in KINDS}

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        os.close(self._lock)

    def add(self, entries: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Appends (kind, line) pairs; on return they are on the disk."""
        for name, file in self._files.items():
            lines = [_line(entry) for kind, entry in entries if kind == name]
            if lines:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())

    def summarise(self, summary: Mapping[str, Any]) -> None:
        """Writes summary.json."""
        _write_json(self._folder / "summary.json", summary)

    def _path(self, kind: str) -> pathlib.Path:
        return self._folder / f"{kind}.jsonl"

    def _check_source(self, source: Mapping[str, Any]) -> None:
        path = self._folder / SOURCE
        if not path.exists():
            _write_json(path, source)
            return
        there, here = json.loads(path.read_text("utf-8")), json.loads(json.dumps(source))
        for key in sorted(there.keys() | here.keys()):
            if there.get(key) != here.get(key):
                old, new = (str(x.get(key))[:80] for x in (there, here))
                raise UserError(
                    f"--output={str(self._folder)!r} holds answers to another {key} (there "
                    f"{old!r}, here {new!r}): use the same flags, or another folder"
                )


@dataclass(frozen=True)
class History:
    """What earlier starts have left: ids that need no further answer, and dollars spent."""

    done: frozenset[str]
    spent: float

    @classmethod
    def of(cls, folder: str) -> "History":
        """Of a folder, also one that is not there yet."""
        done, spent = set(), 0.0
        for kind in KINDS:
            for line in read(os.path.join(folder, f"{kind}.jsonl")):
                spent += line.get("cost", 0.0)
                if kind != "failed":
                    done.add(line["id"])
        return cls(frozenset(done), spent)


def read(path: str) -> Iterator[dict[str, Any]]:
    """The lines of a file, the torn one at its end left out. UserError for a broken one inside."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            entry = _entry(line)
            if entry is None and line.endswith(b"\n"):
                raise UserError(f"{path!r}, line {number}, is no JSON object: delete that line")
            if entry is not None:
                yield entry


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _mend(path: pathlib.Path) -> bool:
    """Ends a file with a whole line; says whether a torn one was taken back."""
    if not os.path.exists(path):
        return False
    with open(path, "r+b") as file:
        start = _last_line(file)
        tail = file.read()
        if not tail or tail.endswith(b"\n"):
            return False
        if _entry(tail) is not None:
            file.write(b"\n")
            return False
        file.truncate(start)
        return True


def _last_line(file: Any) -> int:
    """Seeks to the last line, whole or not, and returns where it starts."""
    end = file.seek(0, os.SEEK_END)
    start, block = end, 1 << 16
    while start > 0:
        step = min(block, start)
        start -= step
        file.seek(start)
        found = file.read(step).rfind(b"\n", 0, step - 1 if start + step == end else step)
        if found >= 0:
            start += found + 1
            break
    file.seek(start)
    return start


def _lock(folder: str) -> int:
    descriptor = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(
            f"--output={folder!r} is being written by another process: wait for it, or use another "
            "folder"
        ) from error
    return descriptor


def _write_json(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    with replace_file(path) as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")
