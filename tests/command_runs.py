"""Starts a main as a real process, again and again: to finish, to be killed, to be refused."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rsvl_jax.training.metrics import comparable

ROOT = Path(__file__).parents[1]


class Command:
    """`python -m MODULE --config=FILE --workdir=...` with settings that every start has in common.

    module: such as "graft_jax.main"; config: file of the recipe; settings: dotted key -> value;
    cache: directory of compiled programs, shared by all starts.
    """

    def __init__(self, module: str, config: str, settings: Mapping[str, object], cache: str):
        self._module, self._config, self._settings = module, config, dict(settings)
        self._environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": cache,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            # Compiling is most of the time of these runs: optimise less.
            "XLA_FLAGS": "--xla_backend_optimization_level=0 "
            "--xla_llvm_disable_expensive_passes=true",
        }

    def words(self, workdir: Path, preset: str = "", **changes: object) -> list[str]:
        """The command; preset: such as ":base"; changes by dotted key, dots written as `__`."""
        overrides = {**self._settings, **{k.replace("__", "."): v for k, v in changes.items()}}
        return [
            *(sys.executable, "-m", self._module),
            f"--config={self._config}{preset}",
            f"--workdir={workdir}",
            *[f"--config.{key}={value}" for key, value in overrides.items()],
        ]

    def start(self, workdir: Path, preset: str = "", **changes: object) -> subprocess.Popen:
        """Starts a process; arguments as of `words`."""
        return subprocess.Popen(
            self.words(workdir, preset, **changes),
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, workdir: Path, preset: str = "", **changes: object) -> tuple[int, str]:
        """Exit status and output."""
        process = self.start(workdir, preset, **changes)
        output, _ = process.communicate()
        return process.returncode, output

    def stop_at(self, workdir: Path, step: int, number: int, part: str = "") -> int:
        """Sends a signal once the metrics (of a part) have come to `step`; returns the status."""
        process = self.start(workdir)
        while process.poll() is None and last_step(workdir / part) < step:
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate()
        return process.returncode


def last_step(workdir: Path) -> int:
    """The last step in the metrics of a run, -1 where there is none."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    complete = [line for line in lines if line.endswith("}")]
    return json.loads(complete[-1])["step"] if complete else -1


def comparable_lines(workdir: Path) -> list[str]:
    """The metrics of a run without what depends on the clock."""
    return [comparable(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
