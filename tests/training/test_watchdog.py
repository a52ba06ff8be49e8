import subprocess
import sys

import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.training.watchdog import STALLED, Watchdog

SCRIPT = """
import sys, threading, time
from rsvl_jax.training.watchdog import Watchdog

def waits_for_a_lost_host():
    time.sleep(30)

def gets_on(watchdog):
    for step in range(12):
        watchdog.now(f"step {step}")
        time.sleep(0.1)

with Watchdog(0.8) as watchdog:
    gets_on(watchdog)
    watchdog.now("saving step 12")
    if sys.argv[1] == "stall":
        threading.Thread(target=waits_for_a_lost_host, daemon=True).start()
        threading.Event().wait()
print("left")
time.sleep(1)  # outside the context nothing is watched
"""


def run(how):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=60
    )


def test_a_stalled_process_shows_every_stack_and_ends_with_its_status():
    ended = run("stall")
    assert ended.returncode == STALLED == 70
    line, stacks = ended.stderr.split("\n", 1)
    assert line.startswith("stalled: saving step 12 takes longer than watchdog.seconds=0.8")
    assert "waits_for_a_lost_host" in stacks and "<module>" in stacks
    assert "left" not in ended.stdout


def test_one_that_gets_on_is_left_alone():
    ended = run("go on")
    assert (ended.returncode, ended.stdout) == (0, "left\n"), ended.stderr


def test_zero_is_no_limit_and_less_is_refused():
    with Watchdog(0):
        pass
    with pytest.raises(UserError, match="watchdog.seconds=-1"):
        Watchdog(-1)
