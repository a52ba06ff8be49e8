"""The linear segmentation head, and its metrics against plain definitions."""

import jax
import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import linear_probe
from rsvl_jax.evaluation import segmentation as seg


def test_metrics_equal_their_definitions():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, (6, 8, 8)).astype(np.uint8)
    truth[truth == 3] = 255  # Class 3 has no true pixel, but is predicted below.
    found = np.where(rng.random(truth.shape) < 0.5, rng.integers(0, 4, truth.shape), truth)
    found = np.where(found == 255, 0, found).astype(np.uint8)
    totals = seg.confusion(found, truth, 4).sum(axis=0)

    known = truth != 255
    expected = []
    for c in range(3):
        hit = ((truth == c) & (found == c) & known).sum()
        either = (((truth == c) | (found == c)) & known).sum()
        expected.append(hit / either)
    np.testing.assert_allclose(seg.per_class_iou(totals), [*expected, np.nan])
    assert seg.mean_iou(totals) == pytest.approx(np.mean(expected))
    among = np.array([True, False, True, True])
    assert seg.mean_iou(totals, among) == pytest.approx((expected[0] + expected[2]) / 2)
    share = [(truth == c).sum() / known.sum() for c in range(3)]
    np.testing.assert_allclose(seg.class_shares(totals), [*share, 0])
    assert seg.frequency_weighted_iou(totals) == pytest.approx(np.dot(share, expected))
    assert seg.pixel_accuracy(totals) == pytest.approx((truth == found)[known].mean())


def test_confusion_is_kept_tile_by_tile():
    truth = np.array([[[0, 1]], [[1, 255]]], np.uint8)
    found = np.array([[[1, 1]], [[1, 0]]], np.uint8)
    assert seg.confusion(found, truth, 2).tolist() == [[0, 1, 0, 1], [0, 0, 0, 1]]


def test_all_unknown_gives_no_number():
    totals = seg.confusion(np.zeros((1, 2, 2), int), np.full((1, 2, 2), 255), 3).sum(axis=0)
    assert np.isnan(seg.mean_iou(totals))


def test_upsampling_is_bilinear_with_clamped_edges():
    weights = seg.upsampling(2, 4)
    np.testing.assert_allclose(weights, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


def test_training_on_interpolated_tokens_is_training_on_upsampled_logits():
    rng = np.random.default_rng(1)
    patches = rng.normal(size=(3, 8, 5)).astype(np.float32)  # 2 x 4 patches
    head = linear_probe.LinearHead(
        mean=rng.normal(size=5).astype(np.float32),
        scale=rng.uniform(1, 2, 5).astype(np.float32),
        weight=rng.normal(size=(5, 3)).astype(np.float32),
        bias=rng.normal(size=3).astype(np.float32),
    )
    logits = ((patches - head.mean) / head.scale) @ head.weight + head.bias
    whole = jax.image.resize(logits.reshape(3, 2, 4, 3), (3, 8, 16, 3), "linear")
    np.testing.assert_array_equal(
        seg.predict(head, patches, (8, 16)), np.asarray(whole).argmax(axis=-1)
    )


def test_head_learns_what_tokens_tell_and_is_deterministic():
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 3, (40, 4, 4))
    masks = np.kron(coarse, np.ones((1, 8, 8), int)).astype(np.uint8)
    centres = rng.normal(size=(3, 12))
    patches = (centres[coarse] + 0.1 * rng.normal(size=(40, 4, 4, 12))).reshape(40, 16, 12)
    masks[:, ::3] = 255
    patches = patches.astype(np.float32)
    head = seg.fit_head(patches[:30], masks[:30], 3, seed=0)
    again = seg.fit_head(patches[:30], masks[:30], 3, seed=0)
    np.testing.assert_array_equal(head.weight, again.weight)
    totals = seg.confusion(seg.predict(head, patches[30:], (32, 32)), masks[30:], 3).sum(axis=0)
    # Interpolation blurs the borders between patches, so not 1.
    assert seg.mean_iou(totals) > 0.75


def test_sampled_pixels_are_known_and_spread():
    masks = np.full((2, 4, 4), 255, np.uint8)
    masks[0, 1, 2] = 7
    tile, row, column, label = seg.sample_pixels(masks, seed=0, per_tile=16)
    assert (tile.tolist(), row.tolist(), column.tolist(), label.tolist()) == ([0], [1], [2], [7])


def test_bad_masks_and_grids_are_errors():
    patches = np.zeros((1, 4, 2), np.float32)
    with pytest.raises(UserError, match="no labelled pixel"):
        seg.fit_head(patches, np.full((1, 4, 4), 255, np.uint8), 3, seed=0)
    with pytest.raises(UserError, match="mask holds class 9: classes are 0..2"):
        seg.fit_head(patches, np.full((1, 4, 4), 9, np.uint8), 3, seed=0)
    with pytest.raises(UserError, match="5 patch tokens do not tile an image of 4x4"):
        seg.grid_of(5, (4, 4))


def test_logistic_regression_reaches_the_optimum():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 4))
    y = (x @ rng.normal(size=(4, 3)) + rng.normal(size=(300, 3))).argmax(axis=1)
    head = linear_probe.fit(x, y, 3, l2=1e-2)
    z = (x - head.mean) / head.scale
    p = np.exp(head.logits(x))
    p /= p.sum(axis=1, keepdims=True)
    residual = (p - np.eye(3)[y]) / len(x)
    np.testing.assert_allclose(z.T @ residual + 1e-2 * head.weight, 0, atol=1e-4)
    np.testing.assert_allclose(residual.sum(axis=0), 0, atol=1e-4)
