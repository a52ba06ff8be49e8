"""Host batches to device arrays, ahead of time."""

import threading
import time

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsvl_jax.data.prefetch import to_device
from rsvl_jax.errors import UserError


@pytest.fixture
def sharding():
    return NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))


class Counting:
    """Batches 0, 1, 2, ...; fails after `limit`, and notes that it was closed."""

    def __init__(self, limit=None, error=None, seconds=0.0):
        self.made, self.limit, self.error, self.seconds = 0, limit, error, seconds
        self.closed, self.skipped = False, ["tile-1"]

    def __iter__(self):
        return self

    def __next__(self):
        if self.made == self.limit:
            raise self.error or StopIteration
        time.sleep(self.seconds)
        self.made += 1
        return {"paired": {"x": np.full((16, 3), self.made - 1), "y": np.arange(16)}}

    def close(self):
        self.closed = True


def test_leaves_become_sharded_global_arrays(sharding):
    batches = to_device(Counting(limit=3), sharding)
    taken = list(batches)
    batches.close()
    assert [int(b["paired"]["x"][0, 0]) for b in taken] == [0, 1, 2]
    leaf = taken[0]["paired"]["y"]
    assert leaf.sharding == sharding and leaf.shape == (16,)
    assert np.asarray(leaf.addressable_shards[3].data).tolist() == [6, 7]


def test_it_runs_ahead_by_its_depth_and_no_further(sharding):
    source = Counting()
    batches = to_device(source, sharding, depth=2)
    next(batches)
    deadline = time.monotonic() + 10
    while source.made < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert source.made == 4  # one taken, two ready, one in the hand of the thread
    batches.close()


def test_the_transfer_goes_on_while_a_step_runs(sharding, monkeypatch):
    place = jax.make_array_from_process_local_data

    def slow(*arguments):
        time.sleep(0.02)  # two leaves: 0.04 s a batch
        return place(*arguments)

    monkeypatch.setattr(jax, "make_array_from_process_local_data", slow)
    batches = to_device(Counting(limit=12), sharding)
    next(batches)
    start = batches.wait_seconds
    for _ in batches:
        time.sleep(0.06)  # the step
    assert batches.wait_seconds - start < 0.2  # of the 0.44 s that the transfers took
    batches.close()


def test_errors_come_in_their_turn_and_again(sharding):
    batches = to_device(Counting(limit=2, error=UserError("record 'tile-7'")), sharding)
    assert [int(next(batches)["paired"]["x"][0, 0]) for _ in range(2)] == [0, 1]
    for _ in range(2):
        with pytest.raises(UserError, match="tile-7"):
            next(batches)
    batches.close()


def test_close_ends_the_thread_and_the_source(sharding):
    before = threading.active_count()
    source = Counting()
    batches = to_device(source, sharding)
    next(batches)
    assert batches.skipped == ["tile-1"]
    batches.close()
    assert source.closed and threading.active_count() == before
    with pytest.raises(StopIteration):
        next(batches)


def test_waiting_is_measured(sharding):
    slow = to_device(Counting(limit=3, seconds=0.1), sharding)
    list(slow)
    assert slow.wait_seconds > 0.25
    quick = to_device(Counting(), sharding)
    for _ in range(3):
        time.sleep(0.1)
        next(quick)
    assert quick.wait_seconds < 0.15
    for batches in (slow, quick):
        batches.close()
