"""Extraction over whole splits: padding, order, devices, processes' limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import features
from rsvl_jax.parallel.mesh import make_mesh

WEIGHT = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
ONE = jax.devices()[:1]


@jax.jit
def encode(images):
    tokens = images.reshape(len(images), -1, 12).astype(jnp.float32) / 255 @ WEIGHT
    return {"cls": tokens[:, 0], "mean": tokens.mean(axis=1), "patches": tokens}


def pictures(n):
    return np.random.default_rng(n).integers(0, 256, (n, 4, 4, 3)).astype(np.uint8)


@pytest.mark.parametrize("n", [3, 16, 21])
def test_one_device_and_eight_agree_whatever_the_remainder(n):
    images = pictures(n)
    one = features.extract(encode, images, batch_size=8, mesh=make_mesh(devices=ONE))
    eight = features.extract(encode, images, batch_size=8, mesh=make_mesh())
    by_hand = images.reshape(n, -1, 12).astype(np.float32) / 255 @ WEIGHT
    for name in ("cls", "mean", "patches"):
        assert one[name].shape[0] == eight[name].shape[0] == n
        np.testing.assert_allclose(one[name], eight[name], atol=1e-6)
    np.testing.assert_allclose(eight["patches"], by_hand, atol=1e-5)


def test_batch_size_is_rounded_up_to_the_devices_and_compiled_once():
    seen = []

    def spy(images):
        seen.append((images.shape, len(images.sharding.device_set)))
        return encode(images)

    features.extract(spy, pictures(21), batch_size=5, mesh=make_mesh())
    assert seen == [((8, 4, 4, 3), 8)] * 3


def test_padding_reaches_no_feature():
    def tainted(images):
        # A padded row is all zeros: let it encode to something that cannot be overlooked.
        empty = (images == 0).all(axis=(1, 2, 3))
        return {"mean": jnp.where(empty[:, None], jnp.nan, encode(images)["mean"])}

    found = features.extract(tainted, pictures(5), batch_size=4, mesh=make_mesh(devices=ONE))
    assert found["mean"].shape == (5, 5)


def test_limits_keep_leading_rows_and_lazy_sources_are_read_once_each():
    class Lazy:
        def __init__(self, images):
            self.images, self.reads = images, []

        def __len__(self):
            return len(self.images)

        def __getitem__(self, row):
            self.reads.append(row)
            return self.images[row]

    source = Lazy(pictures(10))
    mesh = make_mesh(devices=ONE)
    whole = features.extract(encode, source.images, batch_size=4, mesh=mesh)
    part = features.extract(
        encode, source, batch_size=4, mesh=mesh, limits={"patches": 5, "cls": 0}
    )
    np.testing.assert_array_equal(part["patches"], whole["patches"][:5])
    np.testing.assert_array_equal(part["mean"], whole["mean"])
    assert "cls" not in part
    assert set(source.reads) == set(range(10))


def test_empty_splits_and_diverged_weights_are_errors():
    mesh = make_mesh(devices=ONE)

    def diverged(images):
        return {"mean": encode(images)["mean"] / 0}

    with pytest.raises(UserError, match="the split is empty"):
        features.extract(encode, [], batch_size=4, mesh=mesh)
    with pytest.raises(UserError, match="'mean' holds NaN or infinite values"):
        features.extract(
            lambda images: {"mean": encode(images)["mean"] / 0},
            pictures(4),
            batch_size=4,
            mesh=mesh,
        )


def test_texts_are_encoded_once_each_in_batches_of_one_size():
    batches = []

    def lengths(texts):
        batches.append(texts)
        return jnp.array([[len(text), 1.0] for text in texts])

    texts = ["sea", "forest", "sea", "ice", "barren", "sea", "a", "bb"]
    found = features.encode_texts(lengths, texts, batch_size=4, mesh=make_mesh(devices=ONE))
    np.testing.assert_array_equal(found[:, 0], [len(text) for text in texts])
    assert [len(batch) for batch in batches] == [4, 4]
    assert len({text for batch in batches for text in batch}) == 6


def test_locations_are_keyword_only_and_padded():
    shapes = []

    def place(*, lon, lat):
        shapes.append(lon.shape)
        return jnp.stack([lon, lat], axis=1)

    lon, lat = np.linspace(-180, 180, 7), np.linspace(-90, 90, 7)
    found = features.encode_locations(
        place, lon=lon, lat=lat, batch_size=3, mesh=make_mesh(devices=ONE)
    )
    np.testing.assert_allclose(found, np.stack([lon, lat], axis=1), rtol=1e-6)
    assert shapes == [(3,)] * 3
