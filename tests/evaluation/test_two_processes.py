"""Two processes score together and arrive at one process's scores."""

import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from made_searches import searches
from synthetic_tiles import MANIFEST, SEEING, records

from rsvl_jax.evaluation import card, earth_tiles
from rsvl_jax.parallel.mesh import make_mesh


def free_address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_two_processes_give_the_scores_of_one(tmp_path):
    script = os.path.join(os.path.dirname(__file__), "two_processes.py")
    path, address = str(tmp_path / "scores.json"), free_address()
    both = [
        subprocess.Popen([sys.executable, script, str(process), address, path])
        for process in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    expected = earth_tiles.evaluate(
        SEEING,
        None,
        records(24, seed=1),
        records(13, seed=2),
        MANIFEST,
        batch_size=8,
        mesh=make_mesh(devices=jax.devices()[:1]),
        seed=0,
        quick=True,
    )
    first, second = (card.read(f"{path}.{process}") for process in range(2))
    assert first == second
    assert [found.key for found in first] == [wanted.key for wanted in expected]
    for found, wanted in zip(first, expected, strict=True):
        assert found.value == pytest.approx(wanted.value, abs=1e-4), found.key
    alone = searches(None)
    for process in range(2):
        together = np.load(f"{path}.{process}.npz")
        for name, rows in alone.items():
            np.testing.assert_array_equal(together[name], rows, err_msg=name)
