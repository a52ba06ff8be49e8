"""A job in parts, each a file that is whole or not there: what is done need not be done again."""

import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsvl_jax.embed.items import Row
from rsvl_jax.errors import UserError
from rsvl_jax.storage import replace_file

_PLAN = "plan.json"


@dataclass
class Part:
    """Some items in order: rows, embeddings float32 [n, E], and what was left out.

    Attributes:
      given: items that were drawn, embedded or not · skipped: number by reason · problems: lines.
    """

    rows: list[Row] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    given: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def skip(self, reason: str, line: str) -> None:
        """Counts one that is left out."""
        self.skipped[reason] += 1
        if line:
            self.problems.append(line)

    @property
    def embeddings(self) -> np.ndarray:
        """float32 [n, E]."""
        return np.concatenate(self.vectors) if self.vectors else np.zeros((0, 0), np.float32)


class Parts:
    """The folder of a job's parts, beside its output."""

    def __init__(self, output: str, plan: dict[str, Any]):
        """Opens or makes the folder. Raises UserError where it holds the parts of another job."""
        self.folder = f"{output}.parts"
        path = os.path.join(self.folder, _PLAN)
        os.makedirs(self.folder, exist_ok=True)
        if not os.path.exists(path):
            with replace_file(path) as file:
                file.write(json.dumps(plan, indent=1).encode())
        with open(path, encoding="utf-8") as text:
            found = json.load(text)
        other = [key for key in plan if found.get(key) != json.loads(json.dumps(plan[key]))]
        if other:
            raise UserError(
                f"{self.folder!r} holds parts of a job with other {', '.join(other)}: delete it, "
                "or give another --output"
            )
        self.done = 0
        while os.path.exists(self._path(self.done)):
            self.done += 1

    def _path(self, number: int) -> str:
        return os.path.join(self.folder, f"part-{number:06d}.npz")

    def write(self, part: Part) -> None:
        """Adds the next part."""
        about = {
            "rows": part.rows,
            "given": part.given,
            "skipped": part.skipped,
            "problems": part.problems,
        }
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        with replace_file(self._path(self.done)) as file:
            np.savez(file, about=text, embeddings=part.embeddings)
        self.done += 1

    def read(self) -> Iterator[Part]:
        """The parts in order, one at a time. Raises UserError for one that is damaged."""
        for number in range(self.done):
            path = self._path(number)
            try:
                with np.load(path) as arrays:
                    about = json.loads(arrays["about"].tobytes())
                    vectors = arrays["embeddings"]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise UserError(f"{path!r} is damaged ({error}): delete {self.folder!r}") from error
            about["skipped"] = Counter(about["skipped"])
            yield Part(vectors=[vectors], **about)

    def remove(self) -> None:
        """Takes the folder away."""
        shutil.rmtree(self.folder)
