"""The baselines that have learned nothing, or nothing of pixels."""

import numpy as np

from rsvl_jax.evaluation import references
from rsvl_jax.evaluation.tiles import Tiles
from rsvl_jax.evaluation.vectors import normalize, on_sphere


def test_majority_takes_the_lowest_class_on_ties():
    assert references.majority(np.array([3, 1, 1, 3, 0]), 2, 5).tolist() == [1, 1]


def test_colour_statistics_by_hand():
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, :, :, 0] = [[0, 10], [20, 30]]
    image[0, :, :, 2] = 200
    red, green, blue = references.colour_statistics(image).reshape(7, 3).T
    expected = [15, np.std([0, 10, 20, 30]), *np.percentile([0, 10, 20, 30], [5, 25, 50, 75, 95])]
    np.testing.assert_allclose(red, expected, rtol=1e-6)
    np.testing.assert_array_equal(green, np.zeros(7))
    np.testing.assert_array_equal(blue, [200, 0, *[200] * 5])


def test_colour_statistics_in_chunks(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3)).astype(np.uint8)
    whole = references.colour_statistics(images)
    monkeypatch.setattr(references, "_CHUNK", 3)
    np.testing.assert_array_equal(references.colour_statistics(images), whole)


def test_standardising_uses_the_training_split_alone():
    train, test = np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[3.0, 6.0]])
    ours, theirs = references.standardise(train, test)
    np.testing.assert_allclose(ours, [[-1, 0], [1, 0]])
    np.testing.assert_allclose(theirs, [[2, 1]])


def places(lon, lat):
    n = len(lon)
    blank = {name: np.zeros(n) for name in ("captions", "labels", "masks", "purity", "blocks")}
    images = np.random.default_rng(n).integers(0, 256, (n, 4, 4, 3)).astype(np.uint8)
    return Tiles(ids=np.arange(n), images=images, lon=np.array(lon), lat=np.array(lat), **blank)


def test_latitude_enters_without_its_sign_and_places_wrap_at_the_date_line():
    train, test = places([179.9, -179.9, 0.0], [40.0, -40.0, 10.0]), places([5.0], [-10.0])
    found = references.features(train, test)
    assert set(found) == {
        "colour statistics",
        "colour statistics + |latitude|",
        "longitude/latitude alone",
    }
    ours, theirs = found["colour statistics + |latitude|"]
    np.testing.assert_allclose(ours[:, -1], np.array([1, 1, -2]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(theirs[:, -1], ours[2:, -1])
    np.testing.assert_array_equal(ours[:, :-1], found["colour statistics"][0])
    near = on_sphere(lon=np.array([179.9, -179.9, 0.0]), lat=np.zeros(3))
    assert np.linalg.norm(near[0] - near[1]) < 0.01 < np.linalg.norm(near[0] - near[2])


def test_raw_patches_stand_in_token_order():
    image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(1, 2, 4, 3)
    patches = references.raw_patches(image, 2)
    assert patches.shape == (1, 2, 12)
    np.testing.assert_allclose(patches[0, 1] * 255, image[0, :, 2:].reshape(-1), rtol=1e-6)


def test_normalising_keeps_zero_rows():
    np.testing.assert_allclose(normalize(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0, 0]])
