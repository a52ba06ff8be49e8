"""Runs contenders side by side, each in a process of its own, in interleaved rounds.

A contender is a command that prints `ready` and then answers every line `go` on its standard input
with one JSON object on its standard output: `{"seconds": s, "peak_bytes": b}`. Rounds are
interleaved because these machines are shared: a slow minute then hits every contender alike, and
the ratios of one table stay meaningful when the seconds do not.
"""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

import psutil

# Idle contenders must not spin on the cores of the one that runs; huge pages take the page faults
# of big activations out of the measurement, for everybody.
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "JAX_PLATFORMS": "cpu",
    "TOKENIZERS_PARALLELISM": "false",
}


class Contender:
    """A contender's process.

    `seconds` of each round, and `cpu_seconds` of the process and its children since the round
    before: work done ahead counts where it is done.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.peak_bytes = 0
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )
        self._expect("ready")
        self._cpu = self._used()

    def round(self) -> None:
        """Runs one measured piece of work and keeps its time."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = json.loads(self._line())
        self.seconds.append(answer["seconds"])
        used, self._cpu = self._cpu, self._used()
        self.cpu_seconds.append(self._cpu - used)
        self.peak_bytes = max(self.peak_bytes, answer["peak_bytes"])

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _used(self) -> float:
        """Seconds of CPU so far, of the process and its living children."""
        total = 0.0
        main = psutil.Process(self._process.pid)
        for process in (main, *main.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def _expect(self, word: str) -> None:
        while self._line().strip() != word:
            pass

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"contender {self.name} ended with {self._process.wait()}")
        return line


def serve(work: Callable[[], None]) -> None:
    """The contender's side: answers every `go` by timing one call of `work`."""
    import resource
    import time

    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)


def run(commands: Mapping[str, Sequence[str]], rounds: int, warmup: int = 1) -> list[Contender]:
    """Runs all contenders for `rounds` interleaved rounds after `warmup` unmeasured ones."""
    contenders = [Contender(name, command) for name, command in commands.items()]
    try:
        for index in range(warmup + rounds):
            for contender in contenders:
                contender.round()
                if index < warmup:
                    contender.seconds.clear()
                    contender.cpu_seconds.clear()
    finally:
        for contender in contenders:
            contender.close()
    return contenders


def table(contenders: Sequence[Contender], samples: int, reference: str) -> str:
    """Formats medians, spreads and ratios to `reference` as a Markdown table.

    Args:
      contenders: finished contenders.
      samples: samples that one round processes.
      reference: the contender whose speed and memory are 1.
    """
    base = next(c for c in contenders if c.name == reference)
    base_median = statistics.median(base.seconds)
    lines = [
        "| contender | seconds, median (min-max) | samples/s | speed ratio | peak memory | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for c in contenders:
        median = statistics.median(c.seconds)
        # The ratio of each round, not of the medians: both sides of it saw the same machine.
        ratio = statistics.median(b / a for a, b in zip(c.seconds, base.seconds, strict=True))
        lines.append(
            f"| {c.name} | {median:.2f} ({min(c.seconds):.2f}-{max(c.seconds):.2f}) "
            f"| {samples / median:.2f} | {ratio:.2f} | {c.peak_bytes / 2**30:.2f} GiB "
            f"| {c.peak_bytes / base.peak_bytes:.2f} |"
        )
    lines.append("")
    lines.append(f"{len(base.seconds)} interleaved rounds; {hardware()}; base {base_median:.2f} s")
    return "\n".join(lines)


def hardware() -> str:
    """Names the processor, in a line."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"
