"""kNN against brute force in float64, with ties, chunks and votes."""

import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import knn, neighbours
from rsvl_jax.parallel.mesh import make_mesh


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


@pytest.mark.parametrize("pick", ["host", "device"])
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_chunks_do_not_change_the_neighbours(metric, pick, monkeypatch):
    rng = np.random.default_rng(2)
    gallery = rng.integers(-2, 3, (101, 4)) + 0.0
    queries = rng.integers(-2, 3, (23, 4)) + 0.0
    similarity, index = neighbours.neighbours(queries, gallery, k=9, metric=metric)
    monkeypatch.setattr(neighbours, "QUERY_CHUNK", 5)
    monkeypatch.setattr(neighbours, "GALLERY_CHUNK", 8)
    monkeypatch.setattr(neighbours, "FIRST_CHUNK", 3)
    chunked = neighbours.neighbours(queries, gallery, k=9, metric=metric, pick=pick)
    np.testing.assert_allclose(chunked[0], similarity, atol=1e-6)
    if metric == "l2":  # Exact in integers: the order within ties must agree as well.
        np.testing.assert_array_equal(chunked[1], index)


@pytest.mark.parametrize("order", ["rising", "falling", "equal", "classes"])
def test_the_order_of_the_gallery_does_not_matter(order, monkeypatch):
    """Galleries whose every block brings better rows, or ties; integers, so that ties are exact."""
    rng = np.random.default_rng(5)
    gallery = rng.integers(-3, 4, (300, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (11, 3)).astype(np.float32)
    distance = ((gallery - queries[0]) ** 2).sum(axis=1)
    gallery = {
        "rising": gallery[np.argsort(-distance)],
        "falling": gallery[np.argsort(distance)],
        "equal": np.zeros_like(gallery),
        "classes": np.repeat(gallery[:6], 50, axis=0),
    }[order]
    sizes = {"GALLERY_CHUNK": 60, "FIRST_CHUNK": 6, "CROWD": 3, "GROUP": 5}
    for name, value in sizes.items():
        monkeypatch.setattr(neighbours, name, value)
    all_ = ((queries[:, None].astype(float) - gallery[None]) ** 2).sum(axis=2)
    found = neighbours.neighbours(queries, gallery, k=4, metric="l2", pick="host")
    np.testing.assert_array_equal(found[1], np.argsort(all_, axis=1, kind="stable")[:, :4])


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_groups_change_no_bit(metric, monkeypatch):
    rng = np.random.default_rng(6)
    gallery, queries = rng.normal(size=(900, 7)), rng.normal(size=(13, 7))
    options = {"k": 9, "metric": metric, "pick": "host"}
    monkeypatch.setattr(neighbours, "GALLERY_CHUNK", 128)
    monkeypatch.setattr(neighbours, "FIRST_CHUNK", 20)
    monkeypatch.setattr(neighbours, "GROUP", 10**6)  # no block holds such a group
    alone = neighbours.neighbours(queries, gallery, **options)
    monkeypatch.setattr(neighbours, "GROUP", 32)
    grouped = neighbours.neighbours(queries, gallery, **options)
    np.testing.assert_array_equal(grouped[0], alone[0])
    np.testing.assert_array_equal(grouped[1], alone[1])


def test_distances_are_squared_l2():
    similarity, index = neighbours.neighbours(
        np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [1.0, 0.0]]), k=2, metric="l2"
    )
    np.testing.assert_allclose(similarity, [[-1.0, -25.0]])
    assert index.tolist() == [[1, 0]]


def test_too_few_training_examples_are_an_error():
    with pytest.raises(UserError, match="k=5 needs at least 5 training examples, got 3"):
        neighbours.neighbours(np.zeros((1, 2)), np.zeros((3, 2)), k=5, metric="l2")


@pytest.mark.parametrize("pick", ["host", "device"])
def test_eight_devices_find_what_one_finds(pick, monkeypatch):
    """Sizes that do not divide, integers (so that ties are exact), and a gallery in a file."""
    rng = np.random.default_rng(3)
    gallery = rng.integers(-2, 3, (203, 4)).astype(np.float32)
    queries = rng.integers(-2, 3, (37, 4)).astype(np.float32)
    alone = neighbours.neighbours(queries, gallery, k=6, metric="l2")
    monkeypatch.setattr(neighbours, "QUERY_CHUNK", 2)
    monkeypatch.setattr(neighbours, "GALLERY_CHUNK", 50)
    monkeypatch.setattr(neighbours, "GROUP", 10)
    monkeypatch.setattr(neighbours, "FIRST_CHUNK", 6)
    mesh = make_mesh(data=4, fsdp=2)
    shared = neighbours.neighbours(queries, gallery, k=6, metric="l2", mesh=mesh, pick=pick)
    np.testing.assert_array_equal(shared[0], alone[0])
    np.testing.assert_array_equal(shared[1], alone[1])


def test_a_gallery_may_lie_in_a_file(tmp_path):
    rng = np.random.default_rng(4)
    gallery = rng.normal(size=(3000, 8)).astype(np.float32)
    gallery.tofile(tmp_path / "features")
    mapped = np.memmap(tmp_path / "features", np.float32, "r", shape=gallery.shape)
    found = neighbours.neighbours(gallery[:5], mapped, k=1, metric="l2")
    assert found[1][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_votes_of_several_labels_a_row_are_sums_over_neighbours():
    rng = np.random.default_rng(5)
    train, test = rng.normal(size=(60, 5)), rng.normal(size=(9, 5))
    labels = rng.random((60, 4)) < 0.4
    found = knn.votes(knn.L2_5, train=train, train_labels=labels, test=test, num_classes=4)
    for query, row in zip(test, found, strict=True):
        nearest = np.argsort(((train - query) ** 2).sum(axis=1))[:5]
        np.testing.assert_array_equal(row, labels[nearest].sum(axis=0))
