"""Mixtures: shares, epochs of each part, and batches that depend on (seed, step) alone."""

import itertools

import numpy as np
import pytest
from tiny_records import TinySource

from rsvl_jax.data import pipeline
from rsvl_jax.data.mixtures import Mixture, PartTransform
from rsvl_jax.data.order import BLOCK, Epochs, quotas
from rsvl_jax.data.pairs import ImagePart, LocationPart, SampleTransform
from rsvl_jax.data.transforms import Augmentation
from rsvl_jax.errors import UserError

COUNTS, WEIGHTS = (24, 7, 150), (0.5, 0.2, 0.3)


class Numbers:
    """Records that say where they are from."""

    def __init__(self, count, name=0):
        self.count, self.name = count, name

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"id": str(index), "number": index, "name": self.name}


def told(record, rng):
    return {
        "part": np.int64(record["part"]),
        "name": np.int64(record["name"]),
        "number": np.int64(record["number"]),
        "draw": rng.random(),
    }


def numbers(counts=COUNTS, weights=WEIGHTS):
    return Mixture([Numbers(count, name) for name, count in enumerate(counts)], weights)


def batches(count, source=None, transform=told, **options):
    options = {"batch_size": 8, "seed": 3} | options
    made = pipeline.train_batches(source or numbers(), transform, **options)
    taken = list(itertools.islice(made, count))
    made.close()
    return taken


def joined(parts):
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_realised_weights_are_within_sampling_error():
    order, ends = numbers().order((5, 1)), np.cumsum(COUNTS)
    for start in (0, 40_000, BLOCK - 3000, 9 * BLOCK + 11):  # inside of blocks and across
        draws = [order(start + i) for i in range(6000)]
        share = np.bincount(np.searchsorted(ends, draws, side="right"), minlength=3) / len(draws)
        error = np.sqrt(np.array(WEIGHTS) * (1 - np.array(WEIGHTS)) / len(draws))
        assert (np.abs(share - WEIGHTS) < 4 * error).all(), (start, share)
    in_order = np.searchsorted(ends, [order(i) for i in range(1000)], side="right")
    repeats = (in_order[1:] == in_order[:-1]).mean()
    assert abs(repeats - np.square(WEIGHTS).sum()) < 0.05  # no pattern in the rows


def test_the_share_of_a_block_is_exact():
    mixture = numbers()
    for block in (0, 3):
        order = mixture.order((5, 1))
        draws = [order(block * BLOCK + i) for i in range(BLOCK)]
        parts = np.searchsorted(np.cumsum(COUNTS), draws, side="right")
        assert np.bincount(parts).tolist() == quotas(WEIGHTS)


def test_each_part_walks_its_own_epochs():
    mixture, offsets = numbers(), np.cumsum([0, *COUNTS])
    order = mixture.order((5, 1))
    draws = np.array([order(i) for i in range(BLOCK - 500, BLOCK + 500)])
    before = [order(i) for i in range(BLOCK - 500)]
    for part, count in enumerate(COUNTS):
        low, high = offsets[part], offsets[part + 1]
        seen = int(sum(low <= d < high for d in before))
        mine = draws[(draws >= low) & (draws < high)] - low
        alone = Epochs((5, 1, part), count)
        assert mine.tolist() == [alone(seen + i) for i in range(len(mine))]
        first = -(-seen // count) * count - seen  # where a whole epoch starts
        assert sorted(mine[first : first + count].tolist()) == list(range(count))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_same_batches(count):
    shares = [batches(6, process_index=i, process_count=count) for i in range(count)]
    assert_same(batches(6), [joined(parts) for parts in zip(*shares, strict=True)])


def test_workers_threads_and_late_starts_change_nothing():
    whole = batches(9)
    assert_same(whole, batches(9, threads=3))
    assert_same(whole[4:], batches(5, start_step=4))
    assert_same(whole[3:6], batches(3, start_step=3, workers=2))
    start = 2 * BLOCK // 8 - 2  # across the edge of a block
    assert_same(batches(4, start_step=start)[2:], batches(2, start_step=start + 2))


def test_records_come_from_the_part_they_say():
    for batch in batches(5):
        np.testing.assert_array_equal(batch["part"], batch["name"])
    assert (batches(3)[2]["number"] != batches(3, seed=4)[2]["number"]).any()


def test_evaluation_and_numbers_go_through_the_parts_in_order():
    mixture = numbers()
    assert len(mixture) == sum(COUNTS)
    assert [mixture[i]["name"] for i in (0, 23, 24, 30, 31, 180)] == [0, 0, 1, 1, 2, 2]
    assert mixture[30]["number"] == 6
    with pytest.raises(IndexError, match="record 181 of 181"):
        mixture[181]


def test_each_part_is_prepared_in_its_own_way():
    plain = SampleTransform(ImagePart(Augmentation(32), 8), location=LocationPart())
    cropped = SampleTransform(
        ImagePart(Augmentation(32, (0.2, 0.3), flip_vertical=True), 8), location=LocationPart(5.0)
    )
    source = Mixture([TinySource(20), TinySource(6)], (0.5, 0.5))
    (batch,) = batches(1, source, PartTransform([plain, cropped]), batch_size=64)
    (same,) = batches(1, source, PartTransform([plain, plain]), batch_size=64)
    moved = batch["lon"] != same["lon"]
    changed = (batch["image"] != same["image"]).any((1, 2, 3))
    np.testing.assert_array_equal(moved, changed)
    assert 20 < moved.sum() < 44


def test_an_unreadable_record_is_replaced_by_one_of_its_part():
    source = Mixture([TinySource(4, corrupt=(1,)), TinySource(30)], (0.5, 0.5))
    transform = SampleTransform(ImagePart(Augmentation(32), 8), copied=("part",))
    (batch,) = batches(1, source, transform, batch_size=32, skip_corrupt=True)
    order = pipeline._Rows("", pipeline.Stream(source, transform, 32), 3, pipeline.Options())
    expected = [int(order.shuffled(i) >= 4) for i in range(32)]
    np.testing.assert_array_equal(batch["part"], expected)


def test_quotas_are_the_shares_to_one_draw():
    assert quotas([1, 1]) == [BLOCK // 2] * 2
    assert quotas([2.0, 1.0]) == [43691, 21845]
    assert sum(quotas([0.7, 0.2, 0.05, 0.03, 0.02])) == BLOCK


@pytest.mark.parametrize(
    ("counts", "weights", "match"),
    [
        ((3, 4), (1.0,), "2 sources of a mixture have 1 weights"),
        ((3, 0), (1.0, 1.0), "part 1 of the mixture has no records"),
        ((3, 4), (1.0, 0.0), "must be a positive number"),
        ((3, 4), (1.0, float("nan")), "must be a positive number"),
        ((3, 4), (1.0, 1e-9), "less than one draw in 65536"),
    ],
)
def test_impossible_mixtures_are_refused(counts, weights, match):
    with pytest.raises(UserError, match=match):
        numbers(counts, weights)
