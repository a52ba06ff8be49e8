"""Pods of real processes, killed at random moments and started again on any topology."""

import json
import random
import signal
import time

import numpy as np
import pytest
from command_runs import comparable_lines, last_step
from pod import FLAVARS, GRAFT, Pod, ends

POD, ONE, SINGLE = (2, 4), (1, 8), (1, 1)  # processes x devices of each
STEPS = 24  # that are compared; the runs are longer, so that none spends its time on scores
KILLS = 5  # of each run: twenty in all
METHODS = {
    "flavars": (FLAVARS, ""),
    "graft": (GRAFT | {"teacher.training.steps": 8}, "seed0"),
}


class Killer:
    """One run that is killed and started again; `told` lists what happened, for people."""

    def __init__(self, pod, workdir, part, draw):
        self.pod, self.workdir, self.part, self.draw, self.told = pod, workdir, part, draw, []

    def step(self):
        return last_step(self.workdir / self.part)

    def round(self, topology):
        """Kills one or all processes a random while after the start or after the first new step."""
        before, processes = self.step(), self.pod.begin(self.workdir, *topology)
        if self.draw.random() < 0.6:
            while all(p.poll() is None for p in processes) and self.step() <= before:
                time.sleep(0.02)
            time.sleep(self.draw.uniform(0, 6))
        else:
            time.sleep(self.draw.uniform(0, 25))
        alone = [p.communicate()[0] for p in processes if p.poll() is not None]
        assert not alone, alone[0]  # nothing but a kill ends a run
        number = self.draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        victims = self.draw.sample(processes, self.draw.randint(1, len(processes)))
        for victim in victims:
            victim.send_signal(number)
        found = ends(processes, seconds=600)
        name = signal.Signals(number).name
        self.told.append(
            f"{topology}: {name} to {len(victims)} at step {self.step()}: "
            f"{[status for status, _ in found]}"
        )
        for status, output in found:
            assert status in (75, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGABRT), output

    def finish(self, topology):
        """Goes on past the last step that is compared."""
        if self.step() < STEPS:
            found = self.pod.run_until(
                self.workdir, *topology, step=STEPS, signals={0: signal.SIGTERM}, part=self.part
            )
            assert [status for status, _ in found] == [75] * topology[0], found[0][1]


@pytest.fixture(scope="module", params=METHODS)
def runs(request, mini_earth_tiles, mini_zoom_pairs, tmp_path_factory):
    """A pod, the part of the work directory that is compared, and an uninterrupted run."""
    settings, part = METHODS[request.param]
    data = {"flavars": mini_earth_tiles, "graft": mini_zoom_pairs}[request.param]
    settings = settings | {
        "data.dir": data,
        "training.steps": 10 * STEPS,
        "checkpoint.every_steps": 3,
        "evaluation.every_steps": 0,
        "distributed.timeout_s": 60,
    }
    cache = str(tmp_path_factory.mktemp("compiled"))
    module, config = f"{request.param}_jax.main", f"configs/{request.param}.py"
    pod = Pod(module, config, settings, cache)
    straight = Killer(pod, tmp_path_factory.mktemp("straight"), part, None)
    straight.finish(POD)
    return pod, part, straight.workdir / part


@pytest.mark.slow
@pytest.mark.parametrize("topologies", [[POD], [POD, ONE, SINGLE]], ids=["one", "changing"])
def test_kills_leave_no_trace_in_the_losses(topologies, runs, tmp_path):
    pod, part, straight = runs
    killer = Killer(pod, tmp_path, part, random.Random(len(topologies)))
    for number in range(KILLS):
        killer.round(topologies[number % len(topologies)])
        print(killer.told[-1], flush=True)
    killer.finish(POD)
    if len(topologies) == 1:
        assert comparable_lines(tmp_path / part)[:STEPS] == comparable_lines(straight)[:STEPS]
    else:
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
