"""Metrics and probes beside scikit-learn, on random and on degenerate inputs."""

import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import classification, few_shot, knn, linear_probe, multilabel
from rsvl_jax.evaluation import segmentation as seg


def cases(rng):
    """(true, predicted, classes): random, all one class, absent classes, one example."""
    yield rng.integers(0, 5, 200), rng.integers(0, 5, 200), 5
    yield np.zeros(30, int), rng.integers(0, 3, 30), 3
    yield rng.integers(2, 4, 50), rng.integers(0, 6, 50), 6
    yield np.array([1]), np.array([1]), 3


def test_accuracies():
    for true, said, classes in cases(np.random.default_rng(0)):
        totals = classification.tallies(said, true, classes).sum(axis=0)
        assert classification.accuracy(totals) == pytest.approx(sk.accuracy_score(true, said))
        with np.testing.suppress_warnings() as quiet:
            quiet.filter(UserWarning)
            expected = sk.balanced_accuracy_score(true, said)
        assert classification.balanced_accuracy(totals) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k(k):
    rng = np.random.default_rng(1)
    scores, labels = rng.normal(size=(100, 7)), rng.integers(0, 7, 100)
    found = classification.topk_hits(scores, labels, k).mean()
    assert found == pytest.approx(sk.top_k_accuracy_score(labels, scores, k=k))
    tied = np.zeros((3, 4))
    assert classification.topk_hits(tied, np.array([0, 1, 3]), 2).tolist() == [True, True, False]
    argmax = scores.argmax(axis=1) == labels
    np.testing.assert_array_equal(classification.topk_hits(scores, labels, 1), argmax)


def test_mean_average_precision_of_several_labels():
    rng = np.random.default_rng(2)
    labels = rng.random((150, 6)) < 0.3
    labels[:, 4] = True  # all positive
    for scores in (rng.random((150, 6)), rng.integers(0, 4, (150, 6)) / 4):  # ties
        found = multilabel.per_class(scores, labels)
        expected = [sk.average_precision_score(labels[:, c], scores[:, c]) for c in range(6)]
        np.testing.assert_allclose(found, expected)
        assert multilabel.macro(scores, labels) == pytest.approx(np.mean(expected))
        micro = sk.average_precision_score(labels, scores, average="micro")
        assert multilabel.micro(scores, labels) == pytest.approx(micro)
    labels[:, 2] = False  # empty
    assert np.isnan(multilabel.per_class(scores, labels)[2])
    assert multilabel.macro(scores, labels) == pytest.approx(np.mean(np.delete(expected, 2)))


def test_resampled_average_precision_counts_examples():
    rng = np.random.default_rng(3)
    scores, labels = rng.integers(0, 9, (40, 3)) / 9, rng.random((40, 3)) < 0.4
    counts = rng.integers(0, 3, (5, 40))
    found = multilabel.micro(scores, labels, counts)
    for row, value in zip(counts, found, strict=True):
        again = np.repeat(np.arange(40), row)
        expected = sk.average_precision_score(labels[again], scores[again], average="micro")
        assert value == pytest.approx(expected)


def test_intersection_over_union():
    rng = np.random.default_rng(4)
    masks = rng.integers(0, 4, (6, 9, 9)).astype(np.uint8)
    masks[masks == 3] = seg.IGNORE  # class 3 has no true pixel, some are not scored
    said = rng.integers(0, 4, masks.shape).astype(np.uint8)
    totals = seg.confusion(said, masks, 4).sum(axis=0)
    known = masks != seg.IGNORE
    expected = sk.jaccard_score(masks[known], said[known], average=None, labels=range(4))
    np.testing.assert_allclose(seg.per_class_iou(totals)[:3], expected[:3])
    assert np.isnan(seg.per_class_iou(totals)[3])
    assert seg.mean_iou(totals) == pytest.approx(expected[:3].mean())
    weighted = sk.jaccard_score(masks[known], said[known], average="weighted")
    assert seg.frequency_weighted_iou(totals) == pytest.approx(weighted)
    assert seg.pixel_accuracy(totals) == pytest.approx((masks == said)[known].mean())


def test_nothing_to_score_is_not_a_number():
    blank = np.full((2, 3, 3), seg.IGNORE, np.uint8)
    totals = seg.confusion(np.zeros_like(blank), blank, 3).sum(axis=0)
    assert np.isnan(seg.mean_iou(totals)) and seg.pixel_accuracy(totals) == 0
    one = np.zeros((1, 3, 3), np.uint8)
    assert seg.mean_iou(seg.confusion(one, one, 1).sum(axis=0)) == 1


def test_neighbours_vote_as_in_sklearn():
    rng = np.random.default_rng(5)
    train, labels = rng.normal(size=(300, 8)), rng.integers(0, 4, 300)
    test = rng.normal(size=(80, 8))
    found = knn.classify(knn.L2_5, train=train, train_labels=labels, test=test, num_classes=4)
    theirs = KNeighborsClassifier(5, algorithm="brute").fit(train, labels).predict(test)
    np.testing.assert_array_equal(found, theirs)


def blobs(rng, n, classes=4, dims=6):
    labels = rng.integers(0, classes, n)
    centres = np.random.default_rng(9).normal(size=(classes, dims))
    return (centres[labels] + rng.normal(size=(n, dims))).astype(np.float32), labels


def test_probe_equals_logistic_regression():
    rng = np.random.default_rng(6)
    train, validation = blobs(rng, 200), blobs(rng, 90)
    grid = (1e-3, 1e-2, 0.1, 1.0, 10.0)
    found = linear_probe.sweep(train, validation, 4, grid=grid)
    scaler, said = StandardScaler().fit(train[0]), []
    for c in grid:
        model = LogisticRegression(C=c, max_iter=2000, tol=1e-8)
        model.fit(scaler.transform(train[0]), train[1])
        said.append(model.score(scaler.transform(validation[0]), validation[1]))
    np.testing.assert_allclose(found.validation, said, atol=1 / 90 + 1e-9)
    assert found.c == grid[int(np.argmax(found.validation))]
    both = np.concatenate([train[0], validation[0]]), np.concatenate([train[1], validation[1]])
    scaler = StandardScaler().fit(both[0])
    model = LogisticRegression(C=found.c, max_iter=2000, tol=1e-8)
    model.fit(scaler.transform(both[0]), both[1])
    theirs = model.predict_proba(scaler.transform(both[0]))
    logits = found.head.logits(both[0]).astype(np.float64)
    ours = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(ours / ours.sum(axis=1, keepdims=True), theirs, atol=2e-3)


@pytest.mark.parametrize("shots", [1, 25])
def test_ridge_equals_sklearn(shots):
    """Fewer examples than dimensions, and more; the bias as a large constant feature."""
    features, labels = blobs(np.random.default_rng(7), 400)
    rows = few_shot.draw(labels, shots, 4, seed=0)
    assert np.bincount(labels[rows]).tolist() == [shots] * 4 and len(set(rows)) == len(rows)
    ridge = few_shot.Ridge.fit(features[rows], labels[rows], 4)
    x = (features - ridge.mean) / ridge.scale
    x = np.pad(x, ((0, 0), (0, 1)), constant_values=100.0)
    model = Ridge(alpha=8.0, fit_intercept=False, solver="svd")
    model.fit(x[rows], 2 * np.eye(4)[labels[rows]] - 1)
    np.testing.assert_allclose(ridge.scores(features, 8.0), model.predict(x), atol=1e-6)


def test_strength_is_chosen_on_validation():
    features, labels = blobs(np.random.default_rng(8), 400)
    ridges = [few_shot.Ridge.fit(features[:40], labels[:40], 4)]
    chosen = few_shot.strength(ridges, (features[40:], labels[40:]))
    scores = [
        (ridges[0].scores(features[40:], l2).argmax(axis=1) == labels[40:]).mean()
        for l2 in few_shot.STRENGTHS
    ]
    assert scores[few_shot.STRENGTHS.index(chosen)] == max(scores)
    with pytest.raises(UserError, match="100 shots a class"):
        few_shot.draw(labels[:50], 100, 4, seed=0)


def several(rng, n, classes=4):
    """Features and labels bool [n,C] that depend on them; the last class has no positive."""
    features = rng.normal(size=(n, 6)) * rng.uniform(0.5, 3, 6)
    labels = features[:, :classes] + rng.normal(size=(n, classes)) > 0.8
    labels[:, -1] = False
    return features, labels


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_each_class_against_the_rest(c):
    rng = np.random.default_rng(7)
    features, labels = several(rng, 150)
    head = linear_probe.fit(features, labels, 4, l2=1 / (c * 150), iterations=1000)
    scaled = StandardScaler().fit_transform(features)
    for place in range(3):
        theirs = LogisticRegression(C=c, tol=1e-8, max_iter=1000).fit(scaled, labels[:, place])
        logits = theirs.decision_function(scaled)
        np.testing.assert_allclose(head.logits(features)[:, place], logits, atol=5e-3)
    assert (head.logits(features)[:, 3] < 0).all()


def test_the_strength_for_several_labels_is_chosen_by_average_precision():
    rng = np.random.default_rng(8)
    train, validation = several(rng, 80), several(rng, 60)
    found = linear_probe.sweep(train, validation, 4, grid=(1e-4, 1e-2, 1.0))
    by_hand = []
    for c in (1e-4, 1e-2, 1.0):
        head = linear_probe.fit(*train, 4, l2=1 / (c * 80), iterations=1000)
        scores, labels = head.logits(validation[0])[:, :3], validation[1][:, :3]
        by_hand.append(sk.average_precision_score(labels, scores, average="macro"))
    np.testing.assert_allclose(found.validation, by_hand, atol=1e-3)
    assert found.c == (1e-4, 1e-2, 1.0)[int(np.argmax(by_hand))]


def test_f1_of_decisions():
    rng = np.random.default_rng(9)
    logits, labels = rng.normal(size=(70, 5)), rng.random((70, 5)) > 0.6
    labels[:, 4] = False
    totals = multilabel.decisions(logits, labels, 0.0).sum(axis=0)
    given = logits > 0
    assert multilabel.f1_micro(totals) == pytest.approx(sk.f1_score(labels, given, average="micro"))
    each = sk.f1_score(labels[:, :4], given[:, :4], average=None)
    np.testing.assert_allclose(multilabel.f1_per_class(totals), [*each, np.nan])
    assert multilabel.f1_macro(totals) == pytest.approx(each.mean())
    nothing = multilabel.decisions(logits, np.zeros_like(labels), 9.0).sum(axis=0)
    assert multilabel.f1_micro(nothing) == 0 and np.isnan(multilabel.f1_macro(nothing))
