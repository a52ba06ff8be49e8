"""The cache of ground embeddings: each photo once, resumable, and of one tower alone."""

import signal

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from graft_jax import ground
from graft_jax.ground import GroundCache, ensure, prepared
from rsvl_jax.errors import Preempted, UserError
from rsvl_jax.parallel.mesh import make_mesh

DATA = {"name": "made up", "version": "1", "fingerprint": "f00"}
TILES, PHOTOS, SHARD = 10, 30, 4
SIZE, WIDTH, BATCH = 8, 5, 6


class Tower:
    """A frozen random map of the pixels; counts the batches, and can break in one of them."""

    image_size = SIZE

    def __init__(self, fingerprint="tower-1", breaks_at=None, failure=None):
        self.fingerprint, self.batches = fingerprint, 0
        self._breaks_at, self._failure = breaks_at, failure
        weights = np.random.default_rng(3).standard_normal((SIZE * SIZE * 3, WIDTH))
        self._weights = jnp.asarray(weights, jnp.float32)

    def images(self, pixels):
        self.batches += 1
        if self.batches == self._breaks_at:
            self._failure()
        found = (1 + pixels.reshape(len(pixels), -1).astype(jnp.float32)) @ self._weights
        return {"image": found / jnp.linalg.norm(found, axis=-1, keepdims=True)}


def photo(number):
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE, SIZE + number % 3, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture
def tiles(monkeypatch):
    """Ragged tiles that share photos; the third has none."""
    monkeypatch.setattr(ground, "TILES", SHARD)
    rng = np.random.default_rng(0)
    records = []
    for tile in range(TILES):
        names = rng.permutation(PHOTOS)[: 0 if tile == 2 else rng.integers(2, 7)].tolist()
        records.append(
            {
                "id": f"t{tile}",
                "photo_ids": [f"p{name}" for name in names],
                "photos": [photo(name) for name in names],
                "embeddings": np.zeros((0, 0), np.float16),
                "tower": "",
            }
        )
    return records


def cached(tower, tiles, directory, **changes):
    mesh = make_mesh(data=2, devices=jax.devices()[:2])
    options = {"data": DATA, "batch_size": BATCH, "mesh": mesh, **changes}
    return ensure(tower, tiles, directory=str(directory), **options)


def check(cache, tower, tiles):
    for number, record in enumerate(tiles):
        embeddings, good = cache.of_tile(number)
        assert embeddings.dtype == np.float16
        assert embeddings.shape == (len(record["photo_ids"]), WIDTH)
        assert good.all()
        for slot, encoded in enumerate(record["photos"]):
            alone = tower.images(prepared(encoded, SIZE)[None])["image"][0]
            np.testing.assert_allclose(embeddings[slot], alone, atol=1e-3)


def test_every_photo_is_embedded_once_whatever_the_tiles(tiles, tmp_path):
    tower = Tower()
    cache = cached(tower, tiles, tmp_path)
    check(cache, tower, tiles)
    names = {name for record in tiles for name in record["photo_ids"]}
    assert cache.photos == len(names) < sum(len(record["photo_ids"]) for record in tiles)
    stored = [np.load(path) for path in sorted(tmp_path.glob("*.npy"))]
    assert sum(len(part) for part in stored) == len(names)
    assert all(part.dtype == np.float16 for part in stored)


def test_a_finished_cache_asks_nothing_of_the_tower(tiles, tmp_path):
    cached(Tower(), tiles, tmp_path)
    tower = Tower()
    again = cached(tower, tiles, tmp_path)
    assert tower.batches == 0
    check(again, Tower(), tiles)


def stop():
    raise KeyboardInterrupt


def test_a_killed_cache_goes_on_where_it_was(tiles, tmp_path):
    whole = cached(Tower(), tiles, tmp_path / "whole")
    first = {name for record in tiles[:SHARD] for name in record["photo_ids"]}
    second = 1 + -(-len(first) // BATCH)  # the first batch of the second shard
    with pytest.raises(KeyboardInterrupt):
        cached(Tower(breaks_at=second, failure=stop), tiles, tmp_path / "killed")
    left = sorted(path.name for path in (tmp_path / "killed").iterdir())
    assert left == ["00000.npy", "00000.npz", "cache.json"]
    tower = Tower()
    mended = cached(tower, tiles, tmp_path / "killed")
    for number in range(TILES):
        np.testing.assert_array_equal(mended.of_tile(number)[0], whole.of_tile(number)[0])
    again = Tower()
    cached(again, tiles, tmp_path / "anew")
    assert tower.batches < again.batches


def test_a_stop_ends_it_after_a_whole_shard(tiles, tmp_path):
    tower = Tower(breaks_at=1, failure=lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Preempted, match="1 of 3 shards.*same command"):
        cached(tower, tiles, tmp_path)
    check(cached(Tower(), tiles, tmp_path), Tower(), tiles)


@pytest.mark.parametrize(
    ("tower", "changes", "message"),
    [
        ("tower-2", {}, "another tower .there 'tower-1', here 'tower-2'.*--workdir"),
        ("tower-1", {"data": DATA | {"fingerprint": "bar"}}, "another fingerprint.*'f00'.*'bar'"),
    ],
    ids=["tower", "data"],
)
def test_a_cache_of_another_tower_or_of_other_data_is_refused(
    tiles, tmp_path, tower, changes, message
):
    cached(Tower(), tiles, tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message) as refusal:
        cached(Tower(tower), tiles, tmp_path, **changes)
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == before


def test_unreadable_photos_stop_it_or_are_left_out_and_counted(tiles, tmp_path, capsys):
    name = tiles[0]["photo_ids"][0]
    for record in tiles:
        for slot, other in enumerate(record["photo_ids"]):
            if other == name:
                record["photos"][slot] = record["photos"][slot][:40]
    with pytest.raises(UserError, match="cannot be decoded.*skip_corrupt"):
        cached(Tower(), tiles, tmp_path / "stopped")
    cache = cached(Tower(), tiles, tmp_path / "skipped", skip_corrupt=True)
    assert cache.unreadable == 1
    assert "1 unreadable" in capsys.readouterr().err
    for number, record in enumerate(tiles):
        embeddings, good = cache.of_tile(number)
        assert good.tolist() == [other != name for other in record["photo_ids"]]
        assert not embeddings[~good].any() and embeddings[good].any(1).all()


def test_embeddings_that_come_with_the_pairs(tiles, tmp_path):
    tower = Tower()
    for record in tiles:
        shown = [prepared(encoded, SIZE) for encoded in record["photos"]]
        if shown:
            found = np.asarray(tower.images(np.stack(shown))["image"], np.float16)
            record |= {"embeddings": found, "tower": tower.fingerprint}
    bare = [{**record, "photos": []} for record in tiles]
    fresh = Tower()
    check(cached(fresh, bare, tmp_path / "given"), tower, tiles)
    assert fresh.batches == 0
    check(cached(Tower("tower-2"), tiles, tmp_path / "made"), tower, tiles)
    with pytest.raises(UserError, match="'t0' has no photos.*'tower-1', not of 'tower-2'"):
        cached(Tower("tower-2"), bare, tmp_path / "refused")


def test_the_cache_travels_to_worker_processes(tiles, tmp_path):
    import pickle

    cache = cached(Tower(), tiles, tmp_path)
    cache.of_tile(0)
    copy = pickle.loads(pickle.dumps(cache))
    assert isinstance(copy, GroundCache)
    assert len(pickle.dumps(cache)) < 1000
    np.testing.assert_array_equal(copy.of_tile(7)[0], cache.of_tile(7)[0])
