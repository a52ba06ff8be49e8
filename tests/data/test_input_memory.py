"""The memory of the input, with all its processes, does not grow."""

import os
import time

import cv2
import jax
import numpy as np
import psutil
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tiny_records import TinySource, captions, picture

from rsvl_jax.data import pipeline, prefetch
from rsvl_jax.data.pairs import ImagePart, SampleTransform, TextPart
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, train_tokenizer
from rsvl_jax.data.transforms import Augmentation

MINUTES = float(os.environ.get("INPUT_MEMORY_MINUTES", "2"))  # of each kind
MEBIBYTE = 2**20


class Jpegs(TinySource):
    """JPEGs of many sizes, so that memory is asked for in many sizes; some cannot be decoded."""

    def __getitem__(self, index: int) -> dict:
        image = picture(np.random.default_rng(index), 150 + 29 * (index % 17))
        data = cv2.imencode(".jpg", image)[1].tobytes()
        return super().__getitem__(index) | {"image": data[:900] if index % 11 == 0 else data}


def memory() -> float:
    """MiB resident in this process and its children."""
    main = psutil.Process()
    return sum(p.memory_info().rss for p in (main, *main.children(recursive=True))) / MEBIBYTE


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "threads"), [(0, 2), (2, 1)])
def test_memory_is_flat_after_the_start(tmp_path, workers, threads):
    path = str(tmp_path / "tokenizer.model")
    train_tokenizer(captions(), path, 300)
    augmentation = Augmentation(112, (0.1, 1.0), flip_horizontal=True, rotate=True, decode="auto")
    transform = SampleTransform(
        ImagePart(augmentation, mask_count=20), TextPart(SentencePieceTokenizer(path), 32, 8)
    )
    host = pipeline.train_batches(
        Jpegs(200),
        transform,
        batch_size=64,
        seed=0,
        workers=workers,
        threads=threads,
        skip_corrupt=True,
    )
    mesh = Mesh(np.array(jax.devices()), ("data",))
    batches = prefetch.to_device(host, NamedSharding(mesh, PartitionSpec("data")))
    samples, count = [], 0
    start = time.monotonic()
    while (passed := time.monotonic() - start) < 60 * MINUTES:
        next(batches)
        count += 1
        if passed > 10 * len(samples):
            samples.append(memory())
    batches.close()
    third = len(samples) // 3
    early, late = np.median(samples[third : 2 * third]), np.median(samples[2 * third :])
    print(f"{workers} workers, {threads} threads, {count} batches, MiB: {np.round(samples)}")
    assert late < early + 12, samples
