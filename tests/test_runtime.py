"""How a process ends: its status, and the line that says why."""

import signal
import subprocess
import sys

WAITING = """
import sys, time
from rsvl_jax.runtime import exit_status

def wait():
    print("ready", flush=True)
    time.sleep(60)

sys.exit(exit_status(wait))
"""


def test_a_stop_outside_of_training_asks_to_be_run_again():
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 75
    assert errors.startswith("preempted: told to stop outside of training")
