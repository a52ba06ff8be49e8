"""How a process ends: its status, and the line that says why."""

import signal
import subprocess
import sys

import pytest

WAITING = """
import gc, sys, time
from rsvl_jax.runtime import exit_status

def wait(*where):
    print("ready", flush=True)
    time.sleep(60)

def collect():
    gc.callbacks.append(wait)
    gc.collect()

sys.exit(exit_status({"work": wait, "finaliser": collect}[sys.argv[1]]))
"""


@pytest.mark.parametrize("during", ["work", "finaliser"])
def test_a_stop_outside_of_training_asks_to_be_run_again(during):
    """Python drops exceptions that are raised in a finaliser: no stop may be lost so."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, during],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 75
    assert errors.startswith("preempted: told to stop outside of training")
