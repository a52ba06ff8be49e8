"""Crops for training and windows for prediction, against loops over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import segmentation_windows as windows
from rsvl_jax.evaluation.segmentation_crops import Crops, pair
from rsvl_jax.evaluation.segmentation_windows import Windows
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.parallel.mesh import make_mesh

FILL = np.array([7, 8, 9], np.uint8)


def collection(sizes, classes=("a", "b", "c")):
    """Images whose red is the class of the pixel and whose other bands are its place."""
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 3, size).astype(np.uint8) for size in sizes]
    places = [np.indices(size).astype(np.uint8) for size in sizes]
    images = [np.stack([mask, *place], axis=-1) for mask, place in zip(masks, places, strict=True)]
    ids = tuple(str(number) for number in range(len(sizes)))
    return Collection("made", "train", ids, images, masks=masks, pixel_classes=classes)


def test_a_crop_is_of_one_image_and_its_mask_goes_along():
    of = collection([(20, 30), (25, 18), (16, 16), (9, 40)])
    crops, again = Crops(of, 12, FILL, seed=3), Crops(of, 12, FILL, seed=3)
    found = [crops(draw) for draw in range(40)]
    turned = set()
    for draw, (image, mask) in enumerate(found):
        assert image.shape == (12, 12, 3) and mask.shape == (12, 12)
        known = mask != 255
        assert known.mean() == (9 / 12 if (~known).any() else 1)
        np.testing.assert_array_equal(image[known][:, 0], mask[known])
        assert (image[~known] == FILL).all()
        row, column = (image[..., band].astype(int) for band in (1, 2))
        turned.add((row[0, 0] < row[5, 0], column[0, 0] < column[0, 5]))
        np.testing.assert_array_equal(again(draw)[0], image)
    assert len(turned) == 4  # all flips
    assert len({image.tobytes() for image, _ in found}) > 30
    other = Crops(of, 12, FILL, seed=4)
    assert any((other(draw)[0] != found[draw][0]).any() for draw in range(4))
    # Three of four images have no padding: each comes once in every four draws.
    assert all(sum((m == 255).any() for _, m in found[k : k + 4]) == 1 for k in range(0, 40, 4))


@pytest.mark.parametrize(("size", "stride"), [(8, 5), (8, 8), (0, 0)])
def test_logits_are_averaged_where_windows_overlap(size, stride):
    of = collection([(13, 22), (8, 8), (5, 30)])
    shift = np.random.default_rng(1).normal(size=(32, 32, 3)).astype(np.float32)

    def logits(pixels):
        hot = jax.nn.one_hot(pixels[..., 0], 3) * 0.5
        return hot + jnp.asarray(shift[: pixels.shape[1], : pixels.shape[2]])

    how = Windows(size, stride, patch=4, fill=FILL)
    for mesh in (make_mesh(devices=jax.devices()[:1]), make_mesh()):
        found = windows.classes(logits, of.images, how, batch=3, mesh=mesh)
        for image, guess in zip(of.images, found, strict=True):
            np.testing.assert_array_equal(guess, brute(image, shift, size, stride))


def brute(image, shift, size, stride):
    """Every pixel by itself: the mean over all windows that hold it."""
    height, width = image.shape[:2]

    def starts(side):
        if not size or side <= size:
            return [0]
        found = [k * stride for k in range(side) if k * stride + size < side]
        return [*found, side - size]

    classes = np.empty((height, width), np.uint8)
    for y, x in np.ndindex(height, width):
        hot = 0.5 * np.eye(3)[image[y, x, 0]]
        seen = [
            hot + shift[y - top, x - left]
            for top in starts(height)
            for left in starts(width)
            if 0 <= y - top < (size or height) and 0 <= x - left < (size or width)
        ]
        classes[y, x] = np.mean(seen, axis=0).argmax()
    return classes


def test_pairs_that_are_wrong():
    of = collection([(8, 8)])
    of.masks[0] = np.zeros((8, 7), np.uint8)
    with pytest.raises(UserError, match=r"the mask of '0' is \(8, 7\), its image \(8, 8\) pixels"):
        pair(of, 0)
    of.masks[0] = np.full((8, 8), 3, np.uint8)
    with pytest.raises(UserError, match="mask holds class 3: classes are 0..2"):
        pair(of, 0)
    with pytest.raises(UserError, match="made train has no masks"):
        pair(Collection("made", "train", ("0",), of.images), 0)
