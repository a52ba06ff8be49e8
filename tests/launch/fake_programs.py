"""Programs that stand in for gcloud, xpk, sbatch and the like: they record how they are called."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Appends its arguments as one JSON line, then behaves as the table of answers says: the first
# answer whose key is part of the call; a list of answers is used up one by one, the last one stays.
PROGRAM = """#!{python} -IS
import json, os, pathlib, sys
folder = pathlib.Path({folder!r})
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
calls = folder / "calls.jsonl"
before = calls.read_text().splitlines() if calls.exists() else []
with calls.open("a") as file:
    file.write(json.dumps(call) + "\\n")
line = " ".join(call)
for key, answers in json.loads((folder / "answers.json").read_text()):
    if key in line:
        used = sum(key in " ".join(json.loads(earlier)) for earlier in before)
        status, text = answers[min(used, len(answers) - 1)]
        sys.stdout.write(text)
        sys.exit(status)
"""


class FakePrograms:
    """A folder of fake programs, to be put first on PATH.

    answers: (key, [(status, stdout), ...]) pairs, see `PROGRAM`; without one, status 0 and silence.
    """

    def __init__(self, folder: Path, *names: str):
        self._folder = folder
        self.answer()
        for name in names:
            path = folder / name
            path.write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
            path.chmod(0o755)

    def answer(self, *answers: tuple[str, list[tuple[int, str]]]) -> None:
        (self._folder / "answers.json").write_text(json.dumps(answers))

    def calls(self) -> list[str]:
        """Every call so far, quoted as for a shell."""
        file = self._folder / "calls.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [shlex.join(json.loads(line)) for line in lines]

    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self._folder}{os.pathsep}{os.environ['PATH']}"}


def launch(line: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Runs `python -m LINE` in a clean environment, from the repository's root."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    command = [sys.executable, "-m", *shlex.split(line)]
    return subprocess.run(
        command, cwd=ROOT, env={**kept, **(environment or {})}, capture_output=True, text=True
    )
