"""Batches are the same with and without a cache, however full it is and whoever fills it."""

import itertools
import pickle
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from tiny_records import TinySource, picture

from rsvl_jax.data import pipeline
from rsvl_jax.data.cache import Cached, DiskStore, MemoryStore, cached
from rsvl_jax.data.decoding import Picture
from rsvl_jax.data.mixtures import Mixture
from rsvl_jax.data.pairs import ImagePart, SampleTransform
from rsvl_jax.data.transforms import Augmentation, CorruptImage
from rsvl_jax.errors import UserError
from rsvl_jax.training import resume

SIZE = 32 * 32 * 3


class Jpegs(TinySource):
    """JPEGs of many sizes."""

    def __getitem__(self, index: int) -> dict:
        image = picture(np.random.default_rng(index), 40 + 7 * index)
        return {"id": str(index), "image": cv2.imencode(".jpg", image)[1].tobytes()}


def open_cached(source, where, *, gib=1.0, decode="full", workers=0):
    return cached(source, where, gib=gib, decode=decode, key="tiny", workers=workers)


def batches(source, decode="full", count=9, **options):
    augmentation = Augmentation(32, (0.3, 1.0), flip_horizontal=True, decode=decode)
    transform = SampleTransform(ImagePart(augmentation))
    options = {"batch_size": 8, "seed": 5} | options
    made = pipeline.train_batches(source, transform, **options)
    taken = [batch["image"] for batch in itertools.islice(made, count)]
    made.close()
    return np.stack(taken)


@pytest.mark.parametrize("gib", [1.0, 5 * SIZE / 2**30])
@pytest.mark.parametrize("where", ["memory", "disk:{}"])
@pytest.mark.parametrize("decode", ["full", "50"])
def test_batches_are_the_same_with_and_without(tmp_path, where, gib, decode):
    plain = batches(Jpegs(), decode)
    source = open_cached(Jpegs(), where.format(tmp_path), gib=gib, decode=decode)
    for threads in (1, 3):  # empty, then full
        np.testing.assert_array_equal(batches(source, decode, threads=threads), plain)


def test_worker_processes_share_a_disk(tmp_path):
    source = open_cached(Jpegs(), f"disk:{tmp_path}", workers=2)
    np.testing.assert_array_equal(batches(source, workers=2), batches(Jpegs()))
    assert all(source.store.get(i) is not None for i in range(24))
    size = source.store.used
    np.testing.assert_array_equal(batches(source), batches(Jpegs()))
    assert source.store.used == size  # nothing is kept twice


@pytest.mark.parametrize("where", ["memory", "disk:{}"])
def test_a_kept_image_is_not_decoded_again(tmp_path, where, monkeypatch):
    source = open_cached(TinySource(), where.format(tmp_path))
    first = source[3]["image"]
    monkeypatch.setattr("rsvl_jax.data.cache.decode_within", None)
    again = source[3]["image"]
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert (again.shape, again.scale) == (first.shape, first.scale)
    assert not again.pixels.flags.writeable


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_what_fits_is_kept_and_no_more(tmp_path, kind):
    limit = int(2.5 * (SIZE + 16))
    store = MemoryStore(limit) if kind == "memory" else DiskStore(str(tmp_path), 9, limit)
    pixels = np.ones((32, 32, 3), np.uint8)
    for index in (4, 4, 0, 8):
        store.put(index, Picture(pixels * index, (32, 32)))
    kept = [index for index in range(9) if store.get(index) is not None]
    assert kept == [0, 4] and store.used <= limit
    assert (store.get(4).pixels == 4).all() and (store.get(0).pixels == 0).all()


def test_a_smaller_copy_keeps_its_scale(tmp_path):
    store = DiskStore(str(tmp_path), 3, 10**6)
    store.put(2, Picture(np.zeros((10, 20, 3), np.uint8), (100, 201), (0.1, 20 / 201)))
    again = pickle.loads(pickle.dumps(store)).get(2)
    assert again.pixels.shape == (10, 20, 3)
    assert (again.shape, again.scale) == ((100, 201), (0.1, 20 / 201))


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_threads_may_write_at_once(tmp_path, kind):
    store = MemoryStore(10**7) if kind == "memory" else DiskStore(str(tmp_path), 50, 10**7)

    def work():
        for index in range(50):
            store.put(index, Picture(np.full((8, 9, 3), index, np.uint8), (8, 9)))
            assert (store.get(index).pixels == index).all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((store.get(i).pixels == i).all() for i in range(50))


FILL = """
import sys
import numpy as np
from rsvl_jax.data.cache import DiskStore
from rsvl_jax.data.decoding import Picture
store = DiskStore(sys.argv[1], 400, 10**7)
for index in range(int(sys.argv[2]), 400, 2):
    store.put(index, Picture(np.full((16, 16, 3), index % 251, np.uint8), (16, 16)))
"""


def test_processes_may_write_at_once(tmp_path):
    command = [sys.executable, "-c", FILL, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(first)]) for first in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = DiskStore(str(tmp_path), 400, 10**7)
    assert all((store.get(i).pixels == i % 251).all() for i in range(400))


def test_a_full_disk_ends_the_keeping_not_the_run(tmp_path, monkeypatch, capfd):
    store = DiskStore(str(tmp_path), 9, 10**6)
    store.put(0, Picture(np.zeros((4, 4, 3), np.uint8), (4, 4)))

    def pwrite(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", pwrite)
    for index in (1, 2):
        store.put(index, Picture(np.zeros((4, 4, 3), np.uint8), (4, 4)))
    assert store.get(1) is None and store.get(0) is not None
    assert capfd.readouterr().err.count("is full") == 1


def test_an_undecodable_image_is_left_to_who_looks_at_it():
    source = Cached(TinySource(corrupt=(7,)), MemoryStore(10**6), 0)
    assert isinstance(source[7]["image"], bytes) and isinstance(source[6]["image"], Picture)
    with pytest.raises(CorruptImage, match="record 'tile-7'"):
        batches(source)
    skipping = batches(source, skip_corrupt=True)
    plain = batches(TinySource(corrupt=(7,)), skip_corrupt=True)
    np.testing.assert_array_equal(skipping, plain)


def test_data_sets_do_not_share_places(tmp_path):
    where = f"disk:{tmp_path}"
    for key in ("one", "two"):
        source = cached(TinySource(), where, gib=1, decode="full", key=key, workers=0)
        assert source.store.get(0) is None
        source[0]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"where": "memory", "decode": "auto"}, "set data.decode to 'full'"),
        ({"where": "memory", "workers": 4}, "not shared by data.workers=4"),
        ({"where": "ram"}, "data.cache='ram' is unknown"),
        ({"where": "disk:"}, "data.cache='disk:' is unknown"),
        ({"where": "memory", "gib": 0.0}, "data.cache_gib=0.0"),
    ],
)
def test_what_cannot_work_is_refused(options, match):
    with pytest.raises(UserError, match=match):
        open_cached(TinySource(), **options)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    source = open_cached(TinySource(), f"disk:{tmp_path}/file")
    with pytest.raises(UserError, match="choose another directory"):
        source[0]


def test_decoding_belongs_to_the_recipe_and_the_cache_does_not():
    def metadata(**data):
        config = {"data": {"decode": "auto", "cache": "none", "cache_gib": 4.0} | data}
        return {"config": config, "manifest": {}, "layout": {}}

    resume.check(metadata(), metadata(cache="memory", cache_gib=1.0), "run")
    with pytest.raises(UserError, match=r"data.decode \(there 'auto', here 'full'\)"):
        resume.check(metadata(), metadata(decode="full"), "run")


def test_a_mixture_is_drawn_from_by_weight_as_without_a_cache():
    mixture = Mixture([Jpegs(), TinySource(7, corrupt=(2,))], [3.0, 1.0])
    plain = batches(mixture, skip_corrupt=True)
    np.testing.assert_array_equal(batches(open_cached(mixture, "memory"), skip_corrupt=True), plain)
