"""Pods of real processes, killed at random moments and started again on any topology.

SIGTERM ends each run here; for it at random moments see `test_preemption.py`.
"""

import json
import random
import re
import signal
import time

import numpy as np
import psutil
import pytest
from command_runs import comparable_lines, last_step
from pod import FLAVARS, FLAVARS_RUN, GRAFT, GRAFT_RUN, Pod, ends

POD, ONE, SINGLE = (2, 4), (1, 8), (1, 1)  # processes x devices of each
STEPS = 24  # that are compared; the runs are longer, so that none spends its time on scores
KILLS = 5  # of each run: twenty in all
PATIENCE = 600  # seconds
# Settings at default width, narrow settings, the part of the work directory that is compared.
METHODS = {"flavars": (FLAVARS_RUN, FLAVARS, ""), "graft": (GRAFT_RUN, GRAFT, "seed0")}
TEACHER = {"teacher.training.steps": 8}


class Killer:
    """Draws when to kill which processes of a run; `told` lists what happened, for people."""

    def __init__(self, pod, workdir, part, draw):
        self.pod, self.workdir, self.part, self.draw, self.told = pod, workdir, part, draw, []

    def step(self):
        return last_step(self.workdir / self.part)

    def wait(self, alive):
        """Returns a random while after the start or after the first new step."""
        before = self.step()
        if self.draw.random() < 0.6:
            while alive() and self.step() <= before:
                time.sleep(0.02)
            time.sleep(self.draw.uniform(0, 6))
        else:
            time.sleep(self.draw.uniform(0, 25))
        assert alive()  # nothing but a kill ends a run

    def kill(self, processes):
        """Kills one or all."""
        numbers = range(len(processes))
        victims = self.draw.choice([*([number] for number in numbers), list(numbers)])
        self.told.append(f"killed {victims} of {len(processes)} at step {self.step()}")
        print(self.told[-1], flush=True)
        for victim in victims:
            processes[victim].send_signal(signal.SIGKILL)

    def round(self, topology):
        """Starts a run on a topology, kills it, and waits for its end."""
        processes = self.pod.begin(self.workdir, *topology)
        self.wait(lambda: all(p.poll() is None for p in processes))
        self.kill(processes)
        found = ends(processes, PATIENCE)
        print(f"{topology}: {[status for status, _ in found]}", flush=True)
        for status, output in found:
            assert status in (75, -signal.SIGKILL, -signal.SIGABRT), output

    def finish(self, topology):
        """Goes on past the last step that is compared."""
        if self.step() < STEPS:
            found = self.pod.run_until(
                self.workdir, *topology, step=STEPS, signals={0: signal.SIGTERM}, part=self.part
            )
            assert [status for status, _ in found] == [75] * topology[0], found[0][1]


def is_alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


class Launched(Killer):
    """A run that `launch.host` starts again by itself, after each kill."""

    def run(self, topology, log):
        with log.open("w") as file:
            self.launcher = self.pod.launch(self.workdir, *topology, file)
        try:
            for number in range(KILLS):
                processes = self.members(topology[0], number)
                self.wait(lambda alive=processes: all(map(is_alive, alive)))
                self.kill(processes)
            self.members(topology[0], KILLS)
            self.until(lambda: self.step() >= STEPS)
            self.launcher.send_signal(signal.SIGTERM)
            assert self.launcher.wait(PATIENCE) == 75
        finally:
            self.launcher.kill()

    def members(self, count, restarts):
        """The processes of the run, by number, after so many restarts."""
        self.seen = getattr(self, "seen", set())
        found = []

        def new():
            found[:] = [
                child
                for child in psutil.Process(self.launcher.pid).children()
                if child not in self.seen and is_alive(child)
            ]
            return len(found) == count

        self.until(new)
        self.seen |= set(found)
        time.sleep(1)  # until they are the program, not yet a copy of the launcher
        return sorted(found, key=lambda child: child.cmdline()[-1])

    def until(self, condition):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.launcher.poll() is None and time.monotonic() < deadline, self.told
            time.sleep(0.05)


@pytest.fixture(scope="module", params=METHODS)
def runs(request, mini_earth_tiles, mini_zoom_pairs, tmp_path_factory):
    """A pod, the part of the work directory that is compared, and an uninterrupted run."""
    wide, narrow, part = METHODS[request.param]
    settings = narrow if request.config.getoption("--narrow") else wide
    data = {"flavars": mini_earth_tiles, "graft": mini_zoom_pairs}[request.param]
    settings = settings | {
        "data.dir": data,
        "training.steps": 10 * STEPS,
        "checkpoint.every_steps": 3,
        "evaluation.every_steps": 0,
        "distributed.timeout_s": 180,  # on a busy machine
    }
    if request.param == "graft":
        settings |= TEACHER
    cache = str(tmp_path_factory.mktemp("compiled"))
    module, config = f"{request.param}_jax.main", f"configs/{request.param}.py"
    pod = Pod(module, config, settings, cache)
    straight = Killer(pod, tmp_path_factory.mktemp("straight"), part, None)
    straight.finish(POD)
    return pod, part, straight.workdir / part


@pytest.mark.slow
def test_a_launcher_starts_again_after_every_kill(runs, tmp_path):
    """Nobody is needed, and no bit of the losses tells of it."""
    pod, part, straight = runs
    workdir, log = tmp_path / "run", tmp_path / "log"
    killer = Launched(pod, workdir, part, random.Random(f"launched {part}"))
    killer.run(POD, log)
    ended = re.findall(r"all processes ended: status (\d+)", log.read_text())
    assert ended == ["75"] * (KILLS + 1), ended
    assert comparable_lines(workdir / part)[:STEPS] == comparable_lines(straight)[:STEPS]


@pytest.mark.slow
def test_kills_leave_no_trace_in_the_losses_of_changing_topologies(runs, tmp_path):
    pod, part, straight = runs
    killer = Killer(pod, tmp_path, part, random.Random(f"changing {part}"))
    for number in range(KILLS):
        killer.round([POD, ONE, SINGLE][number % 3])
    killer.finish(POD)
    assert_close(tmp_path / part, straight)


def assert_close(workdir, expected):
    """Every training metric of the steps that are compared agrees within rounding."""
    found, wanted = (
        [json.loads(line) for line in (each / "metrics.jsonl").read_text().splitlines()][:STEPS]
        for each in (workdir, expected)
    )
    assert [line["step"] for line in found] == list(range(1, STEPS + 1))
    for one, other in zip(found, wanted, strict=True):
        names = [name for name in other if name.startswith("train/")]
        np.testing.assert_allclose(
            [one[name] for name in names], [other[name] for name in names], rtol=2e-3, err_msg=one
        )
