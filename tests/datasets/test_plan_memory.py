"""Plans of a build: the same however few rows are looked at in one go."""

import numpy as np
import pytest

from rsvl_jax.datasets.image_text import scratch
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.plan import plan
from rsvl_jax.datasets.image_text.scan import ROWS, UNNAMED


def rows_of(n: int, named: bool, places: bool) -> np.ndarray:
    rng = np.random.default_rng(n)
    rows = np.zeros(n, ROWS)
    rows["kept"] = rng.random(n) < 0.95
    rows["split"] = rng.integers(0, 3, n) if named else UNNAMED
    rows["has"] = rng.integers(0, 16, n)
    rows["size"] = rng.integers(100, 5000, n)
    rows["cell"] = rng.integers(0, 60, n) * 1000 if places else 0
    for name in ("key", "captions", "looks"):
        rows[name] = rng.integers(0, 2**64, n, np.uint64)
        again = rng.integers(0, n, n // 10)
        rows[name][rng.integers(0, n, n // 10)] = rows[name][again]
    return rows


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("places", [True, False])
def test_a_plan_does_not_depend_on_the_window(named, places, tmp_path, monkeypatch):
    options = Options(dedupe=("image", "caption"), shard_bytes=200_000)
    folder, plans = str(tmp_path), []
    for window in (2**16, 31):
        monkeypatch.setattr(scratch, "WINDOW", window)
        rows = rows_of(1000, named, places)
        plans.append((plan(rows, options, folder), rows))
    (left, left_rows), (right, right_rows) = plans
    np.testing.assert_array_equal(left_rows, right_rows)
    assert left.bounds == right.bounds and left.counts == right.counts
    assert left.held_out == right.held_out
    for mine, theirs in ((left.orders, right.orders), (left.duplicates, right.duplicates)):
        assert mine.keys() == theirs.keys()
        for name in mine:
            np.testing.assert_array_equal(mine[name], theirs[name])
    assert len(left.duplicates["duplicate key"]) > 20


def test_shards_are_of_about_equal_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "WINDOW", 31)
    rows = rows_of(1000, True, False)
    found = plan(rows, Options(shard_bytes=100_000), str(tmp_path))
    order, bounds = found.orders["train"], found.bounds["train"]
    assert sorted(order.tolist()) == np.flatnonzero(rows["kept"] & (rows["split"] == 0)).tolist()
    sizes = [int(rows["size"][order[a:b]].sum()) for a, b in zip(bounds, bounds[1:], strict=False)]
    assert len(sizes) > 3 and max(sizes) - min(sizes) < 2 * 5000


def test_parts_hold_every_row_once_by_hash(monkeypatch):
    monkeypatch.setattr(scratch, "WINDOW", 10)
    hashes = np.random.default_rng(0).integers(0, 2**64, 101, np.uint64)
    parts = list(scratch.parts(hashes))
    assert len(parts) == 16
    assert sorted(np.concatenate(parts).tolist()) == list(range(101))
    highest = [hashes[part].max() for part in parts if len(part)]
    assert highest == sorted(highest)
    assert [part.tolist() for part in scratch.parts(hashes[:5])] == [[0, 1, 2, 3, 4]]


def test_scratch_arrays_leave_no_file(tmp_path):
    array = scratch.array(str(tmp_path), np.int64, 1000)
    array[:] = 7
    assert array.sum() == 7000 and not list(tmp_path.iterdir())
    assert len(scratch.array(str(tmp_path), ROWS, 0)) == 0
