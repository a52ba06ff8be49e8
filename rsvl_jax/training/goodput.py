"""Goodput: the share of a run's time that went into steps it kept, over all its starts."""

import json
import time

from etils import epath

from rsvl_jax.training import artifacts

_FILE = "goodput.json"


class Goodput:
    """Productive seconds over the seconds since the first start of a run.

    Productive is the time of the steps that the run stands on, without waiting for batches.
    Everything else is lost: starting, compiling, evaluating, saving, standing still between two
    starts, and steps after the checkpoint that a start goes on from, which are taken again.

    `goodput.json` of the work directory holds the time of the first start (Unix seconds), and the
    productive seconds up to each saved step; process 0 writes it.
    """

    def __init__(self, workdir: str, step: int) -> None:
        """step: that the run goes on from."""
        self._workdir = workdir
        found = _read(workdir)
        self._first: float = found.get("first_start", time.time())
        saved = {int(key): seconds for key, seconds in found.get("productive", {}).items()}
        self._saved = {key: seconds for key, seconds in saved.items() if key <= step}
        self._before = self._saved[max(self._saved)] if self._saved else 0.0
        self._write()

    def fraction(self, productive: float) -> float:
        """The goodput now, after so many productive seconds of this start."""
        return (self._before + productive) / max(time.time() - self._first, 1e-9)

    def saved(self, step: int, productive: float) -> None:
        """Keeps what this start has done up to a step that is saved."""
        self._saved[step] = self._before + productive
        self._write()

    def _write(self) -> None:
        productive = {str(step): round(seconds, 3) for step, seconds in self._saved.items()}
        content = {"first_start": self._first, "productive": productive}
        artifacts.write(self._workdir, _FILE, (json.dumps(content) + "\n").encode())


def _read(workdir: str) -> dict:
    """What earlier starts wrote; nothing where that is damaged."""
    path = epath.Path(workdir) / _FILE
    try:
        found = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
