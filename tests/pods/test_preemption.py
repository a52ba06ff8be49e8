"""One process of two is told to stop, before they meet or in mid-training."""

import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
from command_runs import last_step
from pod import ends, free_address
from test_agreement import begin, values
from training.toy import MANIFEST, Toy, batches, config

from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.training.loop import fit

ENDLESS = 1_000_000
SAVED = r"preempted: saved step (\d+); run the same command again"

ALONE = """
import sys
from rsvl_jax import runtime
peers = {"kind": "explicit", "coordinator": sys.argv[1], "processes": 2, "process": 0}
runtime.start(processes={**peers, "timeout_s": 2})
"""

SERVICE = """
import os, signal, sys
import jax
jax.config.update("jax_num_cpu_devices", 1)
jax.distributed.initialize(sys.argv[1], 1, 0)
from rsvl_jax.training.signals import StopSignal
with StopSignal() as stop:
    assert not stop.agreed()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.agreed()
print("agreed")
"""


def test_all_save_the_step_that_they_agree_on_and_go_on_from_it(tmp_path):
    workdir, saved = tmp_path / "pod", 0
    for victim in (1, 0):
        processes = begin(workdir, ENDLESS, "nothing", str(tmp_path / "compiled"))
        while all(p.poll() is None for p in processes) and last_step(workdir) < saved + 8:
            time.sleep(0.02)
        processes[victim].send_signal(signal.SIGTERM)
        found = ends(processes)
        assert [status for status, _ in found] == [75, 75], found
        if saved:
            assert f"restored the checkpoint of step {saved}," in found[0][1]
        steps = [int(re.search(SAVED, output)[1]) for _, output in found]
        assert steps[0] == steps[1] > saved
        saved = steps[0]
        assert (workdir / "checkpoints" / str(saved) / "meta").exists()
    one = make_mesh(devices=jax.devices()[:1])
    fit(
        config=config(steps=saved),
        objective=Toy(),
        make_batches=batches(one),
        manifest=MANIFEST,
        workdir=str(tmp_path / "one"),
        mesh=one,
        evaluate=lambda state, step: {"scale": float(state.params["logit_scale"])},
    )
    wanted = {line["step"]: line for line in values(tmp_path / "one") if "train/loss" in line}
    trained = [line for line in values(workdir) if "train/loss" in line and line["step"] % 2 == 0]
    assert trained[-1]["step"] >= saved - 1
    for line in trained:
        np.testing.assert_allclose(
            line["train/loss"], wanted[line["step"]]["train/loss"], rtol=1e-4
        )


def test_whoever_waits_in_vain_asks_to_be_run_again():
    """The other may have been preempted before it came."""
    ended = subprocess.run(
        [sys.executable, "-c", ALONE, free_address()], capture_output=True, text=True
    )
    assert ended.returncode == 75, ended.stderr
    assert "left alone: other processes of the run have not come" in ended.stderr
    assert "within distributed.timeout_s=2" in ended.stderr


def test_one_process_with_the_service_of_several_hears_the_signal_itself():
    ended = subprocess.run(
        [sys.executable, "-c", SERVICE, free_address()], capture_output=True, text=True
    )
    assert ended.stdout == "agreed\n", ended.stderr
