"""A main as several real processes, each with simulated devices of its own."""

import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from command_runs import ROOT, Command, last_step

SMALL = {"width": 32, "depth": 1, "mlp_dim": 32}
# Runs of the default recipes on the mini data sets, in batches of 16 ...
FLAVARS_RUN = {
    "training.steps": 10,
    "data.name": "earth_tiles/mini",
    "data.batch_size": 16,
    "checkpoint.every_steps": 3,
    "metrics.every_steps": 1,
    "evaluation.every_steps": 5,
    "watchdog.seconds": 300,
}
GRAFT_RUN = {
    "seeds": "(0,)",
    "data.name": "zoom_pairs/mini",
    "data.batch_size": 16,
    "training.steps": 8,
    "teacher.training.steps": 4,
    "teacher.data.batch_size": 16,
    "checkpoint.every_steps": 2,
    "metrics.every_steps": 1,
    "evaluation.every_steps": 4,
    "evaluation.batch_size": 128,
    "watchdog.seconds": 300,
}
# ... and with narrow models.
FLAVARS = FLAVARS_RUN | {
    **{f"model.{part}.{k}": v for part in ("image", "text", "fusion") for k, v in SMALL.items()},
    "model.location.width": 32,
    "model.location.degree": 5,
}
GRAFT = GRAFT_RUN | {
    **{f"model.{part}.{k}": v for part in ("image", "text") for k, v in SMALL.items()},
    "model.embed_dim": 16,
}


class Pod(Command):
    """Starts the processes of a run on one machine."""

    def begin(
        self, workdir: Path, processes: int, devices: int, **changes: object
    ) -> list[subprocess.Popen]:
        """`processes` of them with `devices` each; changes as of `Command.start`."""
        self._environment["JAX_NUM_CPU_DEVICES"] = str(devices)
        if processes == 1:
            return [self.start(workdir, **changes)]
        shared = {
            "distributed__kind": "explicit",
            "distributed__coordinator": free_address(),
            "distributed__processes": processes,
        }
        return [
            self.start(workdir, **shared, distributed__process=number, **changes)
            for number in range(processes)
        ]

    def launch(self, workdir: Path, processes: int, devices: int, log: IO) -> subprocess.Popen:
        """The same under `launch.host`, which starts them again; what all say goes to `log`."""
        port = free_address().rpartition(":")[2]
        launcher = f"launch.host --chip=none --processes={processes} --port={port} --grace=240"
        return subprocess.Popen(
            [
                *(sys.executable, "-m", *launcher.split(), "--restarts_per_hour=99", "--"),
                *self.words(workdir),
            ],
            cwd=ROOT,
            env={**self._environment, "JAX_NUM_CPU_DEVICES": str(devices)},
            stdout=log,
            stderr=log,
        )

    def run(
        self, workdir: Path, processes: int, devices: int, **changes: object
    ) -> list[tuple[int, str]]:
        """Status and output of each process."""
        return ends(self.begin(workdir, processes, devices, **changes))

    def run_until(
        self,
        workdir: Path,
        processes: int,
        devices: int,
        *,
        step: int,
        signals: Mapping[int, int],
        part: str = "",
        delay: float = 0.0,
    ) -> list[tuple[int, str]]:
        """Sends process -> signal `delay` seconds after the metrics have come to `step`."""
        started = self.begin(workdir, processes, devices)
        while all(p.poll() is None for p in started) and last_step(workdir / part) < step:
            time.sleep(0.02)
        time.sleep(delay)
        for process, number in signals.items():
            started[process].send_signal(number)
        return ends(started)


def ends(processes: Sequence[subprocess.Popen], seconds: float = 300) -> list[tuple[int, str]]:
    """Status and output of each process, all of which must end by themselves."""
    try:
        texts = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, texts, strict=True)]


def free_address() -> str:
    """An address of this machine at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"
