"""Batches of tiles and photos: photos keep their places, and a batch is a function of its step."""

import jax
import numpy as np
import pytest

from configs.graft import get_config
from graft_jax.inputs import Inputs, Numbered, PairTransform, moved, transform
from rsvl_jax import datasets
from rsvl_jax.data.transforms import Augmentation, decode
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import make_mesh

WIDTH = 6


@pytest.fixture(scope="module")
def config(mini_zoom_pairs):
    config = get_config()
    config.data.update(name="zoom_pairs/mini", dir=mini_zoom_pairs, batch_size=16, photos=5)
    return config


@pytest.fixture(scope="module")
def inputs(config):
    return Inputs.open(config)


class Cache:
    """Embeddings that name their photo; the second photo of a tile cannot be read."""

    def __init__(self, source):
        self._source = source

    def of_tile(self, tile):
        names = self._source[tile]["photo_ids"]
        good = np.arange(len(names)) != 1
        return np.stack([embedding(name) for name in names]) * good[:, None], good


def embedding(name):
    rng = np.random.default_rng(list(name.encode()))
    return rng.standard_normal(WIDTH).astype(np.float16)


@pytest.mark.parametrize("seed", range(8))
def test_photos_move_with_the_image(seed):
    """Bright dots in a dark tile are where their positions say, in any view."""
    rng = np.random.default_rng(seed)
    every = {"flip_horizontal": True, "flip_vertical": True, "rotate": True}
    augmentation = Augmentation(96, crop_scale=(0.3, 0.9), interpolation="area", **every)
    cells = rng.permutation(64)[:6]
    xy = np.stack([cells % 8 * 6 + 3, cells // 8 * 6 + 3], axis=1).astype(np.float32)
    view = augmentation.draw(rng, (48, 48))
    places, seen = moved(view, xy)
    inside = (places > 6).all(1) & (places < 90).all(1) & seen
    for (x, y), place in zip(xy[inside], places[inside], strict=True):
        tile = np.zeros((48, 48, 3), np.uint8)
        tile[int(y) - 1 : int(y) + 1, int(x) - 1 : int(x) + 1] = 255
        weight = view.image(tile)[..., 0].astype(float)
        rows, cols = np.mgrid[:96, :96] + 0.5
        centre = np.array([(weight * cols).sum(), (weight * rows).sum()]) / weight.sum()
        np.testing.assert_allclose(place, centre, atol=0.6)
    left, top = view.crop.left, view.crop.top
    right, bottom = left + view.crop.width, top + view.crop.height
    within = [left <= x <= right and top <= y <= bottom for x, y in xy]
    assert seen.tolist() == within


def test_a_photo_on_the_border_lies_in_a_patch():
    view = Augmentation(32).draw(np.random.default_rng(0), (32, 32))
    places, seen = moved(view, np.array([[0, 0], [32, 32], [32.1, 5], [5, -0.1]], np.float32))
    assert seen.tolist() == [True, True, False, False]
    assert (places >= 0).all() and (places < 32).all()


def test_samples(inputs):
    source = Numbered(inputs.train, Cache(inputs.train))
    plain = PairTransform(Augmentation(32), photos=5)
    record, rng = source[3], np.random.default_rng(0)
    sample = plain(record, rng)
    assert {name: (v.shape, v.dtype.name) for name, v in sample.items()} == {
        "image": ((32, 32, 3), "uint8"),
        "tile_id": ((), "int32"),
        "footprint": ((4,), "float32"),
        "photos": ((5, WIDTH), "float16"),
        "photo_mask": ((5,), "bool"),
        "photo_id": ((5,), "int32"),
        "photo_xy": ((5, 2), "float32"),
    }
    assert sample["tile_id"] == 3
    np.testing.assert_array_equal(sample["image"], decode(record["image"]))
    # Embedding, place and id of a slot are those of one photo, and it is not the unreadable one.
    names = {tuple(embedding(name)): name for name in record["photo_ids"]}
    for values, place in zip(sample["photos"], sample["photo_xy"], strict=True):
        slot = record["photo_ids"].index(names[tuple(values)])
        np.testing.assert_array_equal(place, record["photo_xy"][slot])
        assert slot != 1
    draws = {tuple(plain(record, rng)["photo_id"]) for _ in range(20)}
    assert len(draws) > 1
    few = plain.for_evaluation()
    assert len({tuple(few(record, rng)["photo_id"]) for _ in range(5)}) == 1


def test_ragged_tiles_are_padded(inputs):
    source = Numbered(inputs.train, Cache(inputs.train))
    sample = PairTransform(Augmentation(32), photos=25)(source[0], np.random.default_rng(0))
    count = len(source[0]["photo_ids"]) - 1
    assert sample["photo_mask"].tolist() == [True] * count + [False] * (25 - count)
    assert not sample["photos"][count:].any() and not sample["photo_xy"][count:].any()


def test_the_same_photo_has_the_same_id_in_two_tiles(inputs):
    found, shared = {}, 0
    whole = PairTransform(Augmentation(32), photos=16, shuffle=False)
    source = Numbered(inputs.train, Cache(inputs.train))
    for tile in range(len(source)):
        sample = whole(source[tile], np.random.default_rng(0))
        for number, values in zip(sample["photo_id"], sample["photos"], strict=True):
            if values.any():
                shared += number in found
                assert found.setdefault(int(number), tuple(values)) == tuple(values)
    assert shared


def test_photos_outside_of_a_crop_are_not_drawn(inputs):
    source = Numbered(inputs.train, Cache(inputs.train))
    close = PairTransform(Augmentation(32, crop_scale=(0.1, 0.1)), photos=16)
    counts = [
        close(source[0], np.random.default_rng(seed))["photo_mask"].sum() for seed in range(9)
    ]
    assert max(counts) < 8


def batches(config, inputs, start, count, cache):
    mesh = make_mesh(data=1, devices=jax.devices()[:1])
    stream = inputs.batches(config, mesh, start, cache)
    found = [jax.device_get(next(stream)) for _ in range(count)]
    stream.close()
    return found


def test_a_batch_is_a_function_of_its_step(config, inputs):
    cache = Cache(inputs.train)
    whole = batches(config, inputs, 0, 3, cache)
    (again,) = batches(config, inputs, 2, 1, cache)
    for name, values in whole[2]["pairs"].items():
        np.testing.assert_array_equal(values, again["pairs"][name])
    assert whole[0]["pairs"]["tile_id"].tolist() != whole[1]["pairs"]["tile_id"].tolist()


def test_photos_themselves_for_a_ground_tower_in_the_step(config, inputs):
    config = config.copy_and_resolve_references()
    config.data.ground = "step"
    (batch,) = batches(config, inputs, 0, 1, None)
    pairs = batch["pairs"]
    assert "photos" not in pairs
    assert pairs["photo_image"].shape == (16, 5, 32, 32, 3)
    record = inputs.train[int(pairs["tile_id"][0])]
    views = {decode(photo).tobytes() for photo in record["photos"]}
    shown = pairs["photo_image"][0][pairs["photo_mask"][0]]
    assert {view.tobytes() for view in shown} <= views


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ground": "live"}, "data.ground='live'.*cached, step"),
        ({"photos": 0}, "data.photos=0"),
    ],
)
def test_bad_choices(config, change, message):
    changed = config.copy_and_resolve_references()
    changed.data.update(change)
    with pytest.raises(UserError, match=message):
        transform(changed)


def test_tiles_without_pairs_are_refused(config):
    changed = config.copy_and_resolve_references()
    changed.data.name = "earth_tiles"
    with pytest.raises(UserError, match="'earth_tiles' holds no pairs.*zoom_pairs"):
        Inputs.open(changed)
    assert datasets.registry.find("zoom_pairs/mini").builder == "zoom_pairs"
