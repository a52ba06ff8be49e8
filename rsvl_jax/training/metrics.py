"""metrics.jsonl and TensorBoard event files.

A line of metrics.jsonl is one flat JSON object: `step` first, then train/* or eval/* by name, then
perf/*. All but perf/* is a pure function of the config and the data. A run that resumes from step s
first drops what was written after s, so up to the perf/* part the file is, bit for bit, the one an
uninterrupted run writes. `comparable` cuts that part off.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any, Protocol

import jax
from etils import epath
from tensorboardX import SummaryWriter

from rsvl_jax.storage import is_remote, locate, replace_file
from rsvl_jax.training.checkpoint import disk_errors
from rsvl_jax.training.progress import say

Value = float | int | None

_FILE = "metrics.jsonl"
_UPLOAD_SECONDS = 60.0


class MetricWriter:
    """Writes metrics from process 0; elsewhere it does nothing.

    step: where the run stands; TensorBoard hides earlier events after it. In an object store, where
    nothing can be appended, metrics.jsonl is written anew once a minute and at every `flush`, and
    there is no TensorBoard.
    """

    def __init__(self, workdir: str, step: int, tensorboard: bool = True) -> None:
        self._path = _path(workdir)
        self._lines: _Lines | None = None
        self._board: SummaryWriter | None = None
        if jax.process_index() != 0:
            return
        remote = is_remote(workdir)
        with disk_errors(self._path):
            self._lines = _Object(self._path) if remote else _File(self._path)
            if tensorboard and not remote:
                folder = os.path.join(workdir, "tensorboard")
                self._board = SummaryWriter(folder, purge_step=step + 1)
        if tensorboard and remote:
            say(f"no TensorBoard files in {workdir}: metrics.jsonl has all of it")

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Appends one line, in one system call. Values that are not finite become null."""
        if self._lines is None:
            return
        with disk_errors(self._path):
            self._lines.append(format_line(step, values) + "\n")
        for name, value in values.items():
            if self._board is not None and value is not None:
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Returns when all lines are on disk, as a checkpoint of this step needs."""
        if self._lines is not None:
            with disk_errors(self._path):
                self._lines.flush()
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Closes the files."""
        if self._lines is not None:
            with disk_errors(self._path):
                self._lines.close()
            self._lines = None
        if self._board is not None:
            self._board.close()


class _Lines(Protocol):
    """A text file that grows by lines."""

    def append(self, line: str) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class _File:
    """On a disk."""

    def __init__(self, path: epath.Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, line: str) -> None:
        content = line.encode()
        if os.write(self._file, content) < len(content):
            raise OSError("No space left on device")

    def flush(self) -> None:
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


class _Object:
    """In an object store, whose objects are written whole and seen whole."""

    def __init__(self, path: epath.Path) -> None:
        self._path = path
        self._text = path.read_text() if path.exists() else ""
        self._written, self._time = self._text, time.monotonic()

    def append(self, line: str) -> None:
        self._text += line
        if time.monotonic() - self._time > _UPLOAD_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._text != self._written:
            self._path.write_text(self._text)
            self._written, self._time = self._text, time.monotonic()

    def close(self) -> None:
        self.flush()


def _path(workdir: str) -> epath.Path:
    return locate(workdir) / _FILE


def format_line(step: int, values: Mapping[str, Value]) -> str:
    """The JSON text of one line, without the newline."""
    names = sorted(values, key=lambda name: (name.startswith("perf/"), name))
    return json.dumps({"step": step, **{name: _finite(values[name]) for name in names}})


def _finite(value: Value) -> Value:
    return value if value is not None and math.isfinite(value) else None


def comparable(line: str) -> str:
    """A line of metrics.jsonl up to its perf/* part: the text that does not depend on timing."""
    return line.rstrip("\n").split(', "perf/')[0].removesuffix("}")


def truncate(workdir: str, step: int) -> None:
    """Drops the lines of metrics.jsonl after `step`, and torn ones.

    The file is replaced as a whole, so a kill in between loses nothing.
    """
    path = _path(workdir)
    if jax.process_index() != 0 or not path.exists():
        return
    lines = _read(path)
    kept = [line for line in lines if _parse(line) and _parse(line)["step"] <= step]
    if kept == lines:
        return
    with disk_errors(path), replace_file(path) as file:
        file.write("".join(kept).encode())


def _read(path: epath.Path) -> list[str]:
    return path.read_bytes().decode(errors="replace").splitlines(keepends=True)


def has_scores(workdir: str, step: int, kind: str = "eval") -> bool:
    """Whether metrics.jsonl holds `kind`/... of a step: they were then written before its save."""
    path = _path(workdir)
    if not path.exists():
        return False
    return any(
        line["step"] == step and any(name.startswith(f"{kind}/") for name in line)
        for line in map(_parse, _read(path))
        if line
    )


def _parse(line: str) -> dict[str, Any]:
    """The values of a line; empty for a torn one."""
    try:
        values = json.loads(line) if line.endswith("\n") else {}
    except ValueError:
        return {}
    return values if isinstance(values, dict) and "step" in values else {}
