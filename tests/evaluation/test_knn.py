"""kNN against brute force in float64, with ties, chunks and votes."""

import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import knn


def brute_force(protocol, train, labels, test, classes):
    """The definition, one query at a time, stable sorts, float64."""
    train, test = train.astype(np.float64), test.astype(np.float64)
    if protocol.metric == "cosine":
        train = train / np.linalg.norm(train, axis=1, keepdims=True)
        test = test / np.linalg.norm(test, axis=1, keepdims=True)
    found = []
    for query in test:
        if protocol.metric == "cosine":
            score = train @ query
        else:
            score = -((train - query) ** 2).sum(axis=1)
        nearest = np.argsort(-score, kind="stable")[: protocol.k]
        votes = np.zeros(classes)
        for row in nearest:
            uniform = protocol.temperature is None
            votes[labels[row]] += 1 if uniform else np.exp(score[row] / protocol.temperature)
        found.append(votes.argmax())
    return np.array(found)


@pytest.mark.parametrize("protocol", [knn.L2_5, knn.COSINE_20])
def test_equals_brute_force_on_random_features(protocol):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(403, 16)), rng.normal(size=(57, 16))
    labels = rng.integers(0, 7, 403)
    found = knn.classify(protocol, train=train, train_labels=labels, test=test, num_classes=7)
    np.testing.assert_array_equal(found, brute_force(protocol, train, labels, test, 7))


def test_equals_brute_force_where_distances_and_votes_tie():
    rng = np.random.default_rng(1)
    # Few distinct points: distances tie everywhere, and integers make the ties exact.
    train, test = rng.integers(0, 3, (200, 3)), rng.integers(0, 3, (60, 3))
    labels = rng.integers(0, 9, 200)
    found = knn.classify(knn.L2_5, train=train, train_labels=labels, test=test, num_classes=9)
    np.testing.assert_array_equal(found, brute_force(knn.L2_5, train, labels, test, 9))


def test_vote_ties_go_to_the_lowest_class():
    train = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    labels = np.array([4, 2, 4, 2, 3])
    found = knn.classify(
        knn.L2_5, train=train, train_labels=labels, test=np.array([[3.0]]), num_classes=5
    )
    assert found.tolist() == [2]


def test_weighted_votes_let_one_close_neighbour_win():
    train = np.array([[1.0, 0.0], *[[0.0, 1.0]] * 3])
    labels = np.array([1, 0, 0, 0])
    weighted = knn.Knn(k=4, metric="cosine", temperature=0.07)
    uniform = knn.Knn(k=4, metric="cosine")
    arguments = {"train": train, "train_labels": labels, "num_classes": 2}
    test = np.array([[1.0, 0.2]])
    assert knn.classify(weighted, test=test, **arguments).tolist() == [1]
    assert knn.classify(uniform, test=test, **arguments).tolist() == [0]


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_chunks_do_not_change_the_neighbours(metric, monkeypatch):
    rng = np.random.default_rng(2)
    gallery = rng.integers(-2, 3, (101, 4)) + 0.0
    queries = rng.integers(-2, 3, (23, 4)) + 0.0
    similarity, index = knn.neighbours(queries, gallery, k=9, metric=metric)
    monkeypatch.setattr(knn, "QUERY_CHUNK", 5)
    monkeypatch.setattr(knn, "GALLERY_CHUNK", 8)
    chunked = knn.neighbours(queries, gallery, k=9, metric=metric)
    np.testing.assert_allclose(chunked[0], similarity, atol=1e-6)
    if metric == "l2":  # Exact in integers: the order within ties must agree as well.
        np.testing.assert_array_equal(chunked[1], index)


def test_distances_are_squared_l2():
    similarity, index = knn.neighbours(
        np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 0.0]]), k=2, metric="l2"
    )
    np.testing.assert_allclose(similarity, [[-1.0, -25.0]])
    assert index.tolist() == [[1, 0]]


def test_too_few_training_examples_are_an_error():
    with pytest.raises(UserError, match="k=5 needs at least 5 training examples, got 3"):
        knn.neighbours(np.zeros((1, 2)), np.zeros((3, 2)), k=5, metric="l2")
