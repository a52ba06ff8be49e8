"""Retrieval against big_vision's golden values, a full sort, and closed-form chance."""

from itertools import combinations

import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import retrieval

# big_vision evaluators/proj/image_text/image_text_retrieval_test.py (Apache-2.0): distances,
# images in rows, texts in columns; two texts an image.
IMAGE_OF_TEXT = np.array([0, 0, 1, 1, 2, 2, 3, 3])
M1 = [
    [0.0, 0.0, 0.1, 0.5, 0.1, 0.2, 0.5, 0.1],
    [0.5, 0.4, 0.0, 0.0, 0.4, 0.2, 0.6, 0.4],
    [0.5, 0.4, 0.1, 0.5, 0.0, 0.0, 0.8, 0.3],
    [0.5, 0.4, 0.1, 0.5, 0.3, 0.2, 0.0, 0.0],
]
M2 = [
    [0.8, 0.8, 0.1, 0.5, 0.1, 0.2, 0.5, 0.1],
    [0.5, 0.4, 0.0, 0.0, 0.4, 0.2, 0.6, 0.4],
    [0.5, 0.4, 0.1, 0.5, 0.0, 0.8, 0.8, 0.3],
    [0.5, 0.4, 0.1, 0.5, 0.4, 0.2, 0.3, 0.3],
]
M3 = [[*M2[0][:6], 0.1, M2[0][7]], *M2[1:]]
RELEVANT = np.arange(4)[:, None] == IMAGE_OF_TEXT


def recalls(ranks):
    return retrieval.recalls(retrieval.tallies(ranks).sum(axis=0))


@pytest.mark.parametrize(("distances", "expected"), [(M1, [1, 1, 1]), (M2, [0.5, 0.75, 1])])
def test_big_vision_image_to_text(distances, expected):
    ranks = retrieval.ranks_from_scores(-np.array(distances), RELEVANT)
    np.testing.assert_allclose(recalls(ranks), expected)


@pytest.mark.parametrize(("distances", "expected"), [(M1, [1, 1, 1]), (M3, [0.375, 1, 1])])
def test_big_vision_text_to_image(distances, expected):
    ranks = retrieval.ranks_from_scores(-np.array(distances).T, RELEVANT.T)
    np.testing.assert_allclose(recalls(ranks), expected)


def test_equals_a_full_sort_in_uneven_chunks(monkeypatch):
    monkeypatch.setattr(retrieval, "_QUERY_CHUNK", 7)
    rng = np.random.default_rng(0)
    queries, gallery = rng.normal(size=(33, 6)), rng.normal(size=(50, 6))
    relevant = rng.random((33, 50)) < 0.1
    relevant[np.arange(33), np.arange(33)] = True
    cosine = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    cosine = cosine @ (gallery / np.linalg.norm(gallery, axis=1, keepdims=True)).T
    order = np.argsort(-cosine, axis=1)
    expected = [1 + np.flatnonzero(relevant[q][order[q]])[0] for q in range(33)]
    np.testing.assert_array_equal(retrieval.ranks(queries, gallery, relevant), expected)


def test_identical_captions_are_right_answers():
    captions = ["a coast", "a desert", "a coast", "a forest"]
    relevant = retrieval.identical(captions, captions)
    assert relevant.sum() == 6
    # Tile 0 finds tile 2's caption first, which reads the same.
    scores = np.eye(4)
    scores[0] = [0.5, 0.6, 0.9, 0.1]
    assert retrieval.ranks_from_scores(scores, relevant).tolist() == [1, 1, 1, 1]
    assert retrieval.ranks_from_scores(scores, np.eye(4, dtype=bool)).tolist() == [3, 1, 1, 1]


def test_collapsed_and_broken_encoders_come_last():
    same = np.ones((5, 3))
    relevant = np.eye(5, dtype=bool)
    assert retrieval.ranks(same, same, relevant).tolist() == [5] * 5
    broken = np.full((5, 5), np.nan)
    assert retrieval.ranks_from_scores(broken, relevant).tolist() == [5] * 5


def test_mean_recall_is_the_mean_over_k():
    totals = retrieval.tallies(np.array([1, 4, 7, 30])).sum(axis=0)
    np.testing.assert_allclose(retrieval.recalls(totals), [0.25, 0.5, 0.75])
    assert retrieval.mean_recall(totals) == pytest.approx(0.5)


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_chance_equals_an_enumeration(k):
    relevant = np.zeros((2, 6), bool)
    relevant[0, :1] = relevant[1, :3] = True
    kk = min(k, 6)
    draws = list(combinations(range(6), kk))
    expected = np.mean([[any(row[list(draw)]) for draw in draws] for row in relevant])
    assert retrieval.chance(relevant, k) == pytest.approx(expected)


def test_chance_of_single_answers_is_k_over_n():
    assert retrieval.chance(np.eye(1095, dtype=bool), 10) == pytest.approx(10 / 1095)


def test_queries_without_an_answer_are_an_error():
    with pytest.raises(UserError, match="1 queries have no relevant item .first: query 1"):
        retrieval.ranks(np.eye(2), np.eye(2), np.array([[True, False], [False, False]]))
    with pytest.raises(UserError, match=r"relevance of shape \(2, 3\)"):
        retrieval.ranks(np.eye(2), np.eye(2), np.ones((2, 3), bool))
