"""metrics.jsonl and TensorBoard event files.

A line of metrics.jsonl is one flat JSON object: `step` first, then train/* or eval/* by name, then
perf/*. All but perf/* is a pure function of the config and the data. A run that resumes from step s
first drops what was written after s, so up to the perf/* part the file is, bit for bit, the one an
uninterrupted run writes. `comparable` cuts that part off.
"""

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
from tensorboardX import SummaryWriter

from rsvl_jax.training.checkpoint import disk_errors

Value = float | int | None

_FILE = "metrics.jsonl"


class MetricWriter:
    """Writes metrics from process 0; elsewhere it does nothing.

    step: where the run stands; TensorBoard hides earlier events after it.
    """

    def __init__(self, workdir: str, step: int, tensorboard: bool = True) -> None:
        self._path = os.path.join(workdir, _FILE)
        self._file: int | None = None
        self._board: SummaryWriter | None = None
        if jax.process_index() != 0:
            return
        with disk_errors(self._path):
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            if tensorboard:
                folder = os.path.join(workdir, "tensorboard")
                self._board = SummaryWriter(folder, purge_step=step + 1)

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Appends one line, in one system call. Values that are not finite become null."""
        if self._file is None:
            return
        with disk_errors(self._path):
            line = (format_line(step, values) + "\n").encode()
            if os.write(self._file, line) < len(line):
                raise OSError("No space left on device")
        for name, value in values.items():
            if self._board is not None and value is not None:
                self._board.add_scalar(name, value, step)

    def flush(self) -> None:
        """Returns when all lines are on disk, as a checkpoint of this step needs."""
        if self._file is not None:
            with disk_errors(self._path):
                os.fsync(self._file)
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._board is not None:
            self._board.close()


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
    path = os.path.join(workdir, _FILE)
    if jax.process_index() != 0 or not os.path.exists(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = file.readlines()
    kept = [line for line in lines if _parse(line) and _parse(line)["step"] <= step]
    if kept == lines:
        return
    with disk_errors(path):
        with open(path + ".tmp", "w", encoding="utf-8") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".tmp", path)


def has_evaluation(workdir: str, step: int) -> bool:
    """Whether metrics.jsonl holds the evaluation of a step: it was then written before its save."""
    path = os.path.join(workdir, _FILE)
    if not os.path.exists(path):
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [_parse(line) for line in file]
    return any(
        line["step"] == step and any(name.startswith("eval/") for name in line)
        for line in lines
        if line
    )


def _parse(line: str) -> dict[str, Any]:
    """The values of a line; empty for a torn one."""
    try:
        values = json.loads(line) if line.endswith("\n") else {}
    except ValueError:
        return {}
    return values if isinstance(values, dict) and "step" in values else {}
