"""Several captions an image, against a full sort and golden values; and distances on Earth."""

import numpy as np
import pytest
from pyproj import Geod

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import caption_retrieval as cr
from rsvl_jax.evaluation import geolocation
from rsvl_jax.parallel.mesh import make_mesh

CAPTIONS = [["a", "b"], ["a", "c", "c"], ["d"]]


def test_captions_apart():
    found = cr.Captions.of(CAPTIONS, merge=False)
    assert found.texts == ("a", "b", "a", "c", "c", "d")
    assert found.images_of.tolist() == [[0], [0], [1], [1], [1], [2]]
    assert found.texts_of.tolist() == [[0, 1, -1], [2, 3, 4], [5, -1, -1]]


def test_captions_merged():
    found = cr.Captions.of(CAPTIONS, merge=True)
    assert found.texts == ("a", "b", "c", "d")
    assert found.images_of.tolist() == [[0, 1], [0, -1], [1, -1], [2, -1]]
    assert found.texts_of.tolist() == [[0, 1], [0, 2], [3, -1]]
    with pytest.raises(UserError, match="image 1 has no caption"):
        cr.Captions.of([["a"], []], merge=True)


def by_sorting(queries, gallery, right):
    """Rank of the first right item, wrong ones first among equals, float64."""
    queries, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, gallery))
    found = []
    for query, own in zip(queries, right, strict=True):
        wrong = ~np.isin(np.arange(len(gallery)), own)
        order = np.lexsort((~wrong, -np.round(gallery @ query, 6)))
        found.append(1 + int(np.flatnonzero(~wrong[order])[0]))
    return found


@pytest.mark.parametrize("sharded", [False, True])
def test_ranks_are_those_of_a_full_sort(sharded, monkeypatch):
    monkeypatch.setattr(cr, "_QUERY_CHUNK", 2 if sharded else 7)
    rng = np.random.default_rng(0)
    queries = rng.integers(-2, 3, (37, 3)) + rng.integers(0, 2, (37, 1)) * 0.5  # many ties
    gallery = rng.integers(-2, 3, (51, 3)) + 0.25
    right = np.where(rng.random((37, 4)) < 0.7, rng.integers(0, 51, (37, 4)), -1)
    right[:, 2] = rng.integers(0, 51, 37)
    right = np.array([[*dict.fromkeys(row), *[-1] * 4][:4] for row in right.tolist()])
    mesh = make_mesh(data=4, fsdp=2) if sharded else None
    found = cr.ranks(queries, gallery, right, mesh)
    assert found.tolist() == by_sorting(queries, gallery, right)


def test_golden_values_of_big_vision():
    """Its M3, text to image, as unit vectors whose cosines have the order of the distances."""
    right = np.array([[0], [0], [1], [1], [2], [2], [3], [3]])
    m3 = np.array(
        [
            [0.8, 0.8, 0.1, 0.5, 0.1, 0.2, 0.1, 0.1],
            [0.5, 0.4, 0.0, 0.0, 0.4, 0.2, 0.6, 0.4],
            [0.5, 0.4, 0.1, 0.5, 0.0, 0.8, 0.8, 0.3],
            [0.5, 0.4, 0.1, 0.5, 0.4, 0.2, 0.3, 0.3],
        ]
    )
    cosine = (1 - m3.T) / 4
    rest = np.sqrt(1 - (cosine**2).sum(axis=1, keepdims=True))
    ranks = cr.ranks(np.concatenate([cosine, rest], axis=1), np.eye(4, 5), right)
    totals = cr.tallies(ranks).sum(axis=0)
    assert [float(cr.recall(totals, p)) for p in range(3)] == [0.375, 1, 1]
    assert cr.mean_recall(totals) == pytest.approx((0.375 + 1 + 1) / 3)
    assert cr.mean_rank(totals) == pytest.approx(ranks.mean())


def test_an_encoder_that_says_one_thing_finds_nothing():
    ranks = cr.ranks(np.ones((5, 3)), np.ones((20, 3)), np.arange(5)[:, None])
    assert ranks.tolist() == [20] * 5
    with pytest.raises(UserError, match="query 1 has no right item"):
        cr.ranks(np.ones((2, 3)), np.ones((4, 3)), np.array([[0], [-1]]))


def test_chance_is_what_random_orders_give():
    rng = np.random.default_rng(1)
    right = np.array([[0, 1, 2], [5, -1, -1], [7, 8, -1]])
    hits = [
        [np.isin(rng.permutation(12)[:4], row[row >= 0]).any() for row in right]
        for _ in range(4000)
    ]
    assert cr.chance(right, 12, 4) == pytest.approx(np.mean(hits), abs=0.02)
    assert cr.chance(right, 12, 100) == 1


def test_distances_are_near_the_geodesic():
    rng = np.random.default_rng(2)
    lon, to_lon = rng.uniform(-180, 180, (2, 500))
    lat, to_lat = np.degrees(np.arcsin(rng.uniform(-1, 1, (2, 500))))
    found = geolocation.distance_km(lon=lon, lat=lat, to_lon=to_lon, to_lat=to_lat)
    metres = Geod(ellps="WGS84").inv(lon, lat, to_lon, to_lat)[2]
    np.testing.assert_allclose(found, metres / 1000, rtol=6e-3)


def test_degenerate_distances():
    found = geolocation.distance_km(
        lon=np.array([180.0, 10, 0]),
        lat=np.array([0.0, 90, 0]),
        to_lon=np.array([-180.0, -70, 180]),
        to_lat=np.array([0.0, 90, 0]),
    )
    half = np.pi * geolocation.EARTH_RADIUS_KM
    np.testing.assert_allclose(found, [0, 0, half], atol=1e-6)
    totals = geolocation.tallies(np.array([0.5, 24, 26, 3000])).sum(axis=0)
    shares = [float(geolocation.accuracy(totals, p)) for p in range(5)]
    assert shares == [0.25, 0.5, 0.75, 0.75, 0.75]
