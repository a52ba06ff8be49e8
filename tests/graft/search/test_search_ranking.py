"""Ranking beside brute force."""

import dataclasses
import datetime

import numpy as np
import pytest
from search_world import Model, places, write_index

from graft_jax.search.index import Index
from graft_jax.search.ranking import extent, ranked, search
from graft_jax.search.settings import Search
from rsvl_jax.errors import UserError

N, E = 700, 24
WORDS = ("red", "green")


class Random(Model):
    """Texts as random unit vectors."""

    def texts(self, texts):
        vectors = [np.random.default_rng(len(text)).normal(size=E) for text in texts]
        return np.stack([v / np.linalg.norm(v) for v in vectors]).astype(np.float32)


def world(seed=0):
    """Embeddings with equal ones among them, and boxes of four degrees all around the Earth."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(N, E))
    embeddings[50:90] = embeddings[10]
    embeddings[::7] *= 3  # length shall not count
    lon, lat = rng.uniform(-180, 180, N), rng.uniform(-70, 70, N)
    turn = (lon + 180 + np.array([[-2.0], [2.0]])) % 360 - 180
    return embeddings, np.stack([turn[0], lat - 2, turn[1], lat + 2], axis=1)


def asked(path, **changes):
    return Search(index=path, queries=WORDS, **changes)


def brute_force(embeddings, vectors):
    """Rows from best to worst for each query, in float64, equal ones in their order."""
    stored = embeddings.astype(np.float32).astype(np.float16).astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    scores = stored @ np.asarray(vectors, np.float64).T
    return scores, [np.lexsort((np.arange(N), -np.round(s, 12))) for s in scores.T]


def test_ranking_is_that_of_brute_force(tmp_path, monkeypatch):
    monkeypatch.setattr("graft_jax.search.index._ROWS", 64)
    monkeypatch.setattr("graft_jax.search.index._CHUNK", 100)
    embeddings, boxes = world()
    path = write_index(tmp_path / "i.parquet", embeddings, boxes)
    found = search(Index(path), Random(), asked(path, top=300))
    scores, orders = brute_force(embeddings, Random().texts(list(WORDS)))
    np.testing.assert_allclose(found.scores, scores, atol=1e-12)
    for hits, order, column in zip(found.hits, orders, scores.T, strict=True):
        assert [hit.tile["id"] for hit in hits] == [f"t{row}" for row in order[:300]]
        np.testing.assert_allclose([hit.score for hit in hits], column[order[:300]], atol=1e-12)
        assert [hit.rank for hit in hits] == list(range(1, 301))


@pytest.mark.parametrize("box", [(-30.0, -20.0, 50.0, 60.0), (150.0, -50.0, -120.0, 10.0)])
def test_a_region_is_searched_alone(tmp_path, box):
    embeddings, boxes = world()
    path = write_index(tmp_path / "i.parquet", embeddings, boxes)
    found = search(Index(path), Random(), asked(path, bbox=box, top=1000))
    west, south, east, north = box
    where = places(boxes)
    along = (where.lon >= west) & (where.lon <= east)
    if east < west:
        along = (where.lon >= west) | (where.lon <= east)
    inside = np.flatnonzero(along & (where.lat >= south) & (where.lat <= north))
    assert 20 < len(inside) < N / 2
    assert {hit.tile["id"] for hit in found.hits[0]} == {f"t{row}" for row in inside}


def test_dates(tmp_path):
    embeddings, boxes = world()
    days = [None if n % 5 == 0 else f"2020-01-{n % 28 + 1:02}" for n in range(N)]
    path = write_index(tmp_path / "i.parquet", embeddings, boxes, days)
    span = {"after": datetime.date(2020, 1, 10), "before": datetime.date(2020, 1, 12)}
    found = search(Index(path), Random(), asked(path, top=1000, **span))
    wanted = {f"t{n}" for n, day in enumerate(days) if day and "2020-01-10" <= day <= "2020-01-12"}
    assert {hit.tile["id"] for hit in found.hits[0]} == wanted and found.undated == N // 5
    assert found.hits[0][0].tile["date"].isoformat() in ("2020-01-10", "2020-01-11", "2020-01-12")
    with pytest.raises(UserError, match="2020-01-01 to 2020-01-28"):
        search(Index(path), Random(), asked(path, after=datetime.date(2021, 1, 1)))


def test_no_tile_in_the_region(tmp_path):
    path = write_index(tmp_path / "i.parquet", np.eye(4), [(5, 5, 6, 6)] * 4)
    with pytest.raises(UserError, match=r"--bbox=50,0,60,10.*5\.50,5\.50,5\.50,5\.50"):
        search(Index(path), Model(), asked(path, bbox=(50.0, 0.0, 60.0, 10.0)))


def test_distinct_hits_do_not_lie_on_better_ones():
    embeddings, boxes = world(1)
    boxes[:, [1, 3]] /= 7  # crowded
    where, scores = places(boxes), embeddings[:, 0]
    found = ranked(scores, where, 60, distinct=True)
    chosen = []
    for row in np.argsort(-scores, kind="stable"):
        on = False
        for better in chosen:
            west, south, east, north = boxes[better]
            across = (where.lon[row] - west) % 360 <= (east - west) % 360
            on |= across and south <= where.lat[row] <= north
        if not on:
            chosen.append(row)
    assert found.tolist() == chosen[:60]
    assert len(ranked(scores, where, 1000, distinct=True)) == len(chosen) < N


def test_another_model_is_refused(tmp_path):
    path = write_index(tmp_path / "i.parquet", np.eye(4), [(0, 0, 1, 1)] * 4)
    with pytest.raises(UserError, match="'colours-1'.*'other'"):
        search(Index(path), Model(fingerprint="other"), asked(path))


def test_templates_count(tmp_path):
    path = write_index(tmp_path / "i.parquet", np.eye(4), [(0, 0, 1, 1)] * 4)
    plain = search(Index(path), Model(), asked(path))
    both = asked(path, templates=("{c}", "a photo of {c}"))
    np.testing.assert_allclose(plain.scores, search(Index(path), Model(), both).scores, atol=1e-7)


def test_extent_takes_the_short_way():
    around = places([(179, 0, 180, 1), (-179, 2, -178, 3)])
    np.testing.assert_allclose(extent(around), (179.5, 0.5, -178.5, 2.5))
    assert extent(dataclasses.replace(around, lon=np.array([10.0, 20.0])))[::2] == (10, 20)
