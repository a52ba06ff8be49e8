"""The blended map of an image beside windows computed one by one, in plain loops."""

import made_scenes as made
import numpy as np
import pytest
from colours_model import ColoursModel, cosine, embed

from graft_jax.map import queries, windows
from graft_jax.map.similarity import Scan, blocks, dense
from rsvl_jax.errors import UserError

WORDS = ("red", "green", "blue")


def scan(model, words=WORDS, **changes):
    return Scan(queries.vectors(model, words), **changes)


def bilinear(grid, size):
    """Values of cells at pixels, interpolated between cell centres, edges held: by hand."""
    cells, found = len(grid), np.empty((size, size, grid.shape[2]))
    for y in range(size):
        for x in range(size):
            v, u = ((p + 0.5) * cells / size - 0.5 for p in (y, x))
            v, u = np.clip((v, u), 0, cells - 1)
            a, b = min(int(v), cells - 2), min(int(u), cells - 2)
            s, t = v - a, u - b
            upper = (1 - t) * grid[a, b] + t * grid[a, b + 1]
            lower = (1 - t) * grid[a + 1, b] + t * grid[a + 1, b + 1]
            found[y, x] = (1 - s) * upper + s * lower
    return found


def by_hand(model, pixels, words, stride):
    """Every window on its own, raised cosines as weights, divided by their sum."""
    size, cells = model.image_size, model.image_size // model.patch_size
    height, width = pixels.shape[:2]
    total = np.zeros((height, width, len(words)))
    weight = np.zeros((height, width, 1))
    bell = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    rows = sorted({*range(0, height - size + 1, stride), height - size})
    columns = sorted({*range(0, width - size + 1, stride), width - size})
    for row in rows:
        for column in columns:
            part = pixels[row : row + size, column : column + size]
            grid = model.images(part[None])["pixels"][0] @ model.texts(list(words)).T
            share = (bell[:, None] * bell)[..., None]
            here = slice(row, row + size), slice(column, column + size)
            total[here] += share * bilinear(grid.reshape(cells, cells, -1), size)
            weight[here] += share
    return np.moveaxis(total / weight, -1, 0)


@pytest.mark.parametrize(("height", "width", "overlap"), [(75, 101, 0.5), (32, 64, 0.25)])
def test_a_map_is_what_its_windows_say_by_hand(height, width, overlap):
    model, pixels = ColoursModel(), made.patchwork(height, width)
    found = dense(model, made.Array(pixels), scan(model, overlap=overlap, batch_size=5))
    wanted = by_hand(model, pixels, WORDS, round(32 * (1 - overlap)))
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_one_colour_gives_one_value_without_seams():
    model = ColoursModel()
    found = dense(model, made.Array(made.plain((200, 30, 90), 90, 117)), scan(model))
    for band, word in zip(found, WORDS, strict=True):
        np.testing.assert_allclose(band, cosine((200, 30, 90), word), atol=1e-6)


def test_windows_that_say_different_things_are_blended_without_seams():
    """One value a window: from pixel to pixel no more may change than raised cosines do."""
    model, pixels = ColoursModel(), made.patchwork(96, 160)
    pixels[:, 70:] //= 4
    found = dense(model, made.Array(pixels), scan(model, level="image"))
    for band in found:
        span = band.max() - band.min()
        assert span > 0.1
        for axis in (0, 1):
            assert np.abs(np.diff(band, axis=axis)).max() < span * np.pi / model.image_size


@pytest.mark.parametrize("side", [16, 37, 1000])
def test_where_the_work_is_split_changes_nothing(side):
    model, image = ColoursModel(), made.Array(made.patchwork(90, 117))
    whole = dense(model, image, scan(model))
    found = np.full_like(whole, np.nan)
    for block in blocks(model, image, scan(model, batch_size=side), side=side):
        height, width = block.scores.shape[1:]
        there = slice(block.row, block.row + height), slice(block.column, block.column + width)
        assert np.isnan(found[:, *there]).all()  # no pixel twice
        found[:, *there] = block.scores
    np.testing.assert_allclose(found, whole, atol=1e-6)


@pytest.mark.parametrize("split", [40, 47, 61])
def test_two_colours_meet_wherever_they_meet(split):
    """A window away from the border, the border between two colours is not felt."""
    model, pixels = ColoursModel(), made.plain((255, 0, 0), 64, 110)
    pixels[:, split:] = (0, 255, 0)
    found = dense(model, made.Array(pixels), scan(model))
    patch = model.patch_size
    left, right = found[:, :, : split - 2 * patch], found[:, :, split + 2 * patch :]
    for part, colour in ((left, (255, 0, 0)), (right, (0, 255, 0))):
        for band, word in zip(part, WORDS, strict=True):
            np.testing.assert_allclose(band, cosine(colour, word), atol=1e-6)


def test_part_of_a_scene_gives_part_of_its_map():
    model, pixels = ColoursModel(), made.patchwork(96, 128)
    whole = dense(model, made.Array(pixels), scan(model))
    part = dense(model, made.Array(pixels[:, 32:]), scan(model))  # two strides to the right
    np.testing.assert_allclose(part[:, :, 16:], whole[:, :, 48:], atol=1e-6)


def test_no_data_is_masked_and_does_not_reach_its_neighbours():
    model, pixels = ColoursModel(), made.plain((255, 0, 0), 64, 96)
    valid = np.ones((64, 96), bool)
    valid[:, 40:] = False  # patches that are wholly without data, from a patch border on
    found = dense(model, made.Array(pixels, valid), scan(model))
    assert np.isnan(found[:, :, 40:]).all() and not np.isnan(found[:, :, :40]).any()
    np.testing.assert_allclose(found[0, :, :40], cosine((255, 0, 0), "red"), atol=1e-6)


def test_batches_without_a_valid_pixel_are_not_asked():
    model, valid = ColoursModel(), np.zeros((32, 320), bool)
    valid[:, 300:] = True
    image = made.Array(made.plain((9, 9, 9), 32, 320), valid)
    found = dense(model, image, scan(model, batch_size=4, overlap=0.0))
    assert model.seen == 4  # of ten windows, in batches of four; the last one is filled up
    assert np.isfinite(found[:, :, 300:]).all() and np.isnan(found[:, :, :300]).all()


def test_the_image_level_takes_one_value_a_window():
    model, pixels = ColoursModel(), made.plain((255, 0, 0), 32, 64)
    pixels[:, 32:] = (0, 0, 255)
    found = dense(model, made.Array(pixels), scan(model, level="image", overlap=0.0))
    np.testing.assert_allclose(found[0, :, :32], cosine((255, 0, 0), "red"), atol=1e-6)
    np.testing.assert_allclose(found[0, :, 32:], cosine((0, 0, 255), "red"), atol=1e-6)


@pytest.mark.parametrize(("length", "size", "stride"), [(32, 32, 16), (100, 32, 16), (97, 32, 29)])
def test_weights_are_a_partition_of_unity(length, size, stride):
    first = windows.starts(length, size, stride)
    total = np.zeros(length)
    for start, weight in zip(first, windows.weights(length, size, first), strict=True):
        total[start : start + size] += weight
    np.testing.assert_allclose(total, 1, atol=1e-12)
    assert first[0] == 0 and first[-1] == length - size and (np.diff(first) <= stride).all()


def test_templates_are_averaged():
    model = ColoursModel()
    one = queries.vectors(model, ["red"], ["{c}", "a photo of {c}"])
    np.testing.assert_allclose(one[0], embed((255, 0, 0)), atol=1e-6)


@pytest.mark.parametrize("changes", [{"overlap": 0.95}, {"overlap": -0.1}])
def test_an_impossible_overlap_is_refused(changes):
    model = ColoursModel()
    with pytest.raises(UserError, match="overlap"):
        dense(model, made.Array(made.plain((0, 0, 0), 64, 64)), scan(model, **changes))


def test_embeddings_that_are_not_finite_are_refused():
    class Broken(ColoursModel):
        def images(self, pixels):
            return {"pixels": super().images(pixels)["pixels"] * np.float32(np.nan)}

    model = Broken()
    with pytest.raises(UserError, match="NaN"):
        dense(model, made.Array(made.plain((0, 0, 0), 64, 64)), scan(model))
