"""Batches are a pure function of (seed, step), whoever computes them."""

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tiny_records import TinySource, captions

from rsvl_jax.data import pipeline
from rsvl_jax.data.pairs import ImagePart, LocationPart, SampleTransform, TextPart
from rsvl_jax.data.pipeline import Stream
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, train_tokenizer
from rsvl_jax.data.transforms import Augmentation, CorruptImage
from rsvl_jax.errors import UserError


@pytest.fixture(scope="module")
def transform(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("pipeline") / "tokenizer.model")
    train_tokenizer(captions(), path, 300)
    return SampleTransform(
        ImagePart(Augmentation(32, (0.5, 1.0), flip_horizontal=True), 8, mask_count=6),
        TextPart(SentencePieceTokenizer(path), 32, 8, swap_probability=0.2, others=TinySource()),
        LocationPart(0.1),
        copied=("label",),
    )


def take(batches, count):
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def train(transform, count=5, source=None, **options):
    options = {"batch_size": 8, "seed": 3} | options
    source = TinySource() if source is None else source
    return take(pipeline.train_batches(source, transform, **options), count)


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_workers_and_threads_change_nothing(transform):
    alone = train(transform)
    assert alone[0]["image"].shape == (8, 32, 32, 3)
    assert_same(alone, train(transform, threads=3))
    assert_same(alone[1:], train(transform, 4, start_step=1, workers=2))


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_same_global_batches(transform, count):
    shares = [train(transform, process_index=i, process_count=count) for i in range(count)]
    together = [
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for parts in zip(*shares, strict=True)
    ]
    assert_same(train(transform), together)


def test_starting_late_is_skipping(transform):
    assert_same(train(transform, 6)[4:], train(transform, 2, start_step=4))


def test_seeds_and_epochs_differ(transform):
    first, other = train(transform)[0], train(transform, seed=4)[0]
    assert (first["label"] != other["label"]).any() and (first["lon"] != other["lon"]).any()
    ids = lambda record, rng: {"id": np.int64(record["id"].split("-")[1])}  # noqa: E731
    batches = train(ids, 9, batch_size=8)
    epochs = np.concatenate([b["id"] for b in batches]).reshape(3, 24)
    assert (np.sort(epochs, 1) == np.arange(24)).all()
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()


def test_a_record_drawn_again_is_augmented_anew(transform):
    source = TinySource(1)
    rows = train(transform, 1, source=source)[0]
    assert len({row.tobytes() for row in rows["image"]}) == 8


RUN = """
import sys, time
sys.path[:0] = {path!r}
from tiny_records import TinySource
from rsvl_jax.data import pipeline
from rsvl_jax.data.pairs import ImagePart, SampleTransform
from rsvl_jax.data.transforms import Augmentation
import multiprocessing

if __name__ == "__main__":
    transform = SampleTransform(ImagePart(Augmentation(32), 8))
    batches = pipeline.train_batches(TinySource(), transform, batch_size=8, seed=0, workers=1)
    next(batches)
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(600)
"""


def test_a_killed_run_leaves_no_workers_behind(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(RUN.format(path=sys.path))
    run = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(run.stdout.readline())
    os.kill(worker, signal.SIGTERM)  # left to the parent
    time.sleep(0.3)
    assert _alive(worker)
    run.kill()
    run.wait()
    run.stdout.close()
    deadline = time.monotonic() + 20
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_streams_are_nested_independent_and_may_be_off(transform):
    image = SampleTransform(image=transform.image)
    streams = {
        "paired": Stream(TinySource(), transform, 8),
        "image": Stream(TinySource(40), image, 4),
        "text": Stream(TinySource(), SampleTransform(text=transform.text), 0),
    }
    mixed = take(pipeline.mixed_batches(streams, seed=3), 3)
    assert set(mixed[0]) == {"paired", "image"}
    assert mixed[0]["image"]["image"].shape == (4, 32, 32, 3)
    alone = take(pipeline.mixed_batches({"paired": streams["paired"]}, seed=3), 3)
    assert_same([b["paired"] for b in mixed], [b["paired"] for b in alone])
    halves = [
        take(pipeline.mixed_batches(streams, seed=3, process_index=i, process_count=2), 3)
        for i in range(2)
    ]
    np.testing.assert_array_equal(
        mixed[2]["image"]["image"],
        np.concatenate([half[2]["image"]["image"] for half in halves]),
    )


def test_text_is_cut_to_the_smallest_bucket_that_holds_it(transform):
    whole, cut = train(transform), train(transform, text_buckets=(8, 16, 20, 24))
    for long, short in zip(whole, cut, strict=True):
        longest = long["text_mask"].sum(1).max()
        width = min(b for b in (8, 16, 20, 24, 32) if b >= longest)
        for key in ("text", "text_mask", "text_masked"):
            np.testing.assert_array_equal(short[key], long[key][:, :width])
        assert short["mlm_positions"].max() < width
        np.testing.assert_array_equal(short["image"], long["image"])
    shared = train(transform, text_buckets=(8, 16, 20, 24), process_count=2, process_index=0)
    assert shared[0]["text"].shape == (4, 32)


def test_evaluation_goes_once_through_all_in_order(transform):
    def evaluate(**how):
        return take(
            pipeline.eval_batches(TinySource(), transform.for_evaluation(), batch_size=10, **how), 9
        )

    batches = evaluate()
    assert [b["_mask"].sum() for b in batches] == [10, 10, 4]
    assert all(b["image"].shape[0] == 10 for b in batches)
    labels = np.concatenate([b["label"][b["_mask"]] for b in batches])
    np.testing.assert_array_equal(labels, np.arange(24) % 5)
    halves = [evaluate(process_index=i, process_count=2) for i in range(2)]
    together = [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*halves, strict=True)]
    assert_same(batches, together)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_stops_with_its_record(transform, workers):
    source = TinySource(corrupt=(7,))
    with pytest.raises(CorruptImage, match="record 'tile-7'"):
        train(transform, 4, source=source, workers=workers)


@pytest.mark.parametrize("workers", [0, 1])
def test_or_it_is_skipped_and_counted(transform, workers):
    source = TinySource(corrupt=(7, 11))
    batches = pipeline.train_batches(
        source, transform, batch_size=8, seed=3, skip_corrupt=True, workers=workers
    )
    skipping = list(itertools.islice(batches, 3))
    assert set(batches.skipped) == {"tile-7", "tile-11"}
    for _ in range(6):  # two epochs more
        next(batches)
    assert sorted(batches.skipped) == ["tile-11", "tile-7"]  # each once, so that a list is enough
    batches.close()
    whole = train(transform, 3)
    same = [(a["lon"] == b["lon"]).sum() for a, b in zip(skipping, whole, strict=True)]
    assert sum(same) == 22
    assert_same(skipping, train(transform, 3, source=source, skip_corrupt=True))


def test_evaluation_masks_what_it_cannot_read(transform):
    batches = pipeline.eval_batches(
        TinySource(corrupt=(3, 23)), transform.for_evaluation(), batch_size=10, skip_corrupt=True
    )
    taken = list(batches)
    assert [b["_mask"].sum() for b in taken] == [9, 10, 3]
    assert not taken[0]["_mask"][3] and batches.skipped == ["tile-3", "tile-23"]


def test_nothing_but_corrupt_images_ends(transform):
    with pytest.raises(UserError, match="16 undecodable images in a row"):
        train(transform, 1, source=TinySource(2, corrupt=(0, 1)), skip_corrupt=True)


def test_finish_runs_on_whole_batches(transform):
    def finish(batch):
        return batch | {"count": np.array([len(batch["image"])])}

    assert train(transform, 1, finish=finish)[0]["count"].tolist() == [8]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 9, "process_count": 2}, "9 is not divisible by 2 processes"),
        ({"threads": 0}, "threads=0"),
        ({"seed": -1}, "seed -1"),
        ({"source": TinySource(0)}, "no records"),
    ],
)
def test_impossible_batches_are_refused(transform, options, match):
    with pytest.raises(UserError, match=match):
        train(transform, **options)
