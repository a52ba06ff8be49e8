"""Labels beside what windows and regions say by hand."""

import cv2
import made_scenes as made
import numpy as np
import pytest
from colours_model import COLOURS, ColoursModel, cosine, embed

from graft_jax.map.similarity import Scan, blocks
from graft_jax.segment import labels, segment
from graft_jax.segment.refined import Refined
from graft_jax.segment.regions import mean_by_region, paint, superpixels
from rsvl_jax.errors import UserError

WORDS = ["red", "green", "blue"]


def vectors(words=tuple(WORDS)):
    return ColoursModel().texts(list(words))


def disc(height=96, width=128):
    """A red disc on green, blue from a wavy line on, with grain; and the number of each colour."""
    y, x = np.mgrid[:height, :width]
    truth = np.where(x > 96 + 6 * np.sin(y / 9), 2, 1)
    truth[(y - 48) ** 2 + (x - 44) ** 2 < 30**2] = 0
    colour = np.array([COLOURS[word] for word in WORDS]) * 0.7 + 30
    grain = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    return np.clip(colour[truth] + grain, 0, 255).astype(np.uint8), truth


def squares(image, valid):
    """Regions that are known: squares of 10 pixels."""
    y, x = np.indices(valid.shape) // 10
    return np.where(valid, 1 + y * 1000 + x, 0)


def test_labels_are_the_texts_with_the_highest_cosine_bilinear_between_patches():
    """One window, its patches' cosines by hand and upsampled by OpenCV."""
    model, pixels = ColoursModel(patch_size=4), made.patchwork(32, 32)
    patches = embed(pixels.reshape(8, 4, 8, 4, 3).mean(axis=(1, 3)))
    wanted = cv2.resize(patches @ vectors().T, (32, 32), interpolation=cv2.INTER_LINEAR)
    found = segment(model, pixels, vectors())
    np.testing.assert_allclose(found.scores, wanted.transpose(2, 0, 1), atol=1e-5)
    assert found.labels.dtype == np.uint8 and len(np.unique(found.labels)) == 3
    assert (found.labels == wanted.argmax(axis=2)).mean() > 0.999  # ties may round either way


def test_every_colour_gets_its_own_label_away_from_boundaries():
    pixels, truth = disc()
    found = segment(ColoursModel(patch_size=4), pixels, vectors()).labels
    wrong = found != truth
    assert 0 < wrong.mean() < 0.05  # blurred at boundaries, and nowhere else
    assert (found[:8, :80] == truth[:8, :80]).all() and (found[40:56, 30:58] == 0).all()


def test_superpixels_put_boundaries_where_they_are():
    pytest.importorskip("skimage")
    pixels, truth = disc()
    model = ColoursModel()
    coarse = (segment(model, pixels, vectors()).labels != truth).sum()
    fine = (segment(model, pixels, vectors(), regions=superpixels(8)).labels != truth).sum()
    assert fine < coarse / 5


def test_regions_take_the_mean_of_their_pixels():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 20, 30)).astype(np.float32)
    scores[:, 3:6, 4:9] = np.nan
    regions = rng.integers(0, 5, (20, 30))
    found = mean_by_region(scores, regions)
    for q in range(2):
        for y in range(20):
            for x in range(30):
                if np.isnan(scores[q, y, x]):
                    wanted = np.nan
                elif regions[y, x] == 0:
                    wanted = scores[q, y, x]
                else:
                    wanted = np.nanmean(scores[q][regions == regions[y, x]])
                assert found[q, y, x] == pytest.approx(wanted, abs=1e-6, nan_ok=True)


def test_a_pixel_belongs_to_the_smallest_mask_over_it():
    large, small = np.zeros((6, 6), bool), np.zeros((6, 6), bool)
    large[:4], small[2:4, 2:4] = True, True
    for masks in ([large, small], [small, large]):
        found = paint(masks, (6, 6))
        assert (found[2:4, 2:4] == 2).all() and (found[:2] == 1).all() and (found[4:] == 0).all()


def test_below_the_threshold_is_none_of_the_texts():
    pixels = made.plain((255, 0, 0), 40, 80)
    pixels[:, 40:] = (0, 0, 255)
    between = (cosine((255, 0, 0), "red") + cosine((0, 0, 255), "red")) / 2
    found = segment(ColoursModel(), pixels, vectors(["red"]), threshold=between).labels
    assert (found[:, :32] == 0).all() and (found[:, 48:] == 1).all()


@pytest.mark.parametrize("refine", ["none", "squares", "superpixels"])
def test_pixels_that_are_not_valid_have_no_label_and_no_say(refine):
    regions = {"none": None, "squares": squares}.get(refine)
    if refine == "superpixels":
        pytest.importorskip("skimage")
        regions = superpixels(8)
    pixels, valid = made.plain((255, 0, 0), 40, 80), np.ones((40, 80), bool)
    valid[:, 37:] = False
    pixels[:, 37:] = (0, 0, 255)
    found = segment(ColoursModel(), pixels, vectors(), valid=valid, regions=regions)
    assert (found.labels[:, :37] == 0).all() and (found.labels[:, 37:] == 255).all()
    assert np.isnan(found.scores[:, :, 37:]).all()
    assert found.scores[0, 0, 0] == pytest.approx(found.scores[0, 20, 30], abs=0.06)


@pytest.mark.parametrize("side", [64, 90, 1000])
def test_tiles_give_what_the_whole_image_gives(tmp_path, side):
    """Regions that lie within the margin: where tiles are cut changes nothing."""
    pixels, _ = disc(150, 200)
    valid = np.ones((150, 200), bool)
    valid[60:70, 90:] = False
    image, model = labels.Picture(pixels, valid), ColoursModel()

    def of_whole(part, there):
        y, x = of_whole.at
        whole = squares(pixels, valid)
        return whole[y : y + there.shape[0], x : x + there.shape[1]]

    class Recorded(labels.Picture):
        def read(self, row, column, height, width=None):
            of_whole.at = row, column
            return super().read(row, column, height, width)

    recorded = Recorded(image.pixels, image.valid)
    # Windows are read ahead by a thread before any tile is, so the last read is the tile's own.
    refined = Refined(of_whole, str(tmp_path), side=side, margin=16)
    found = np.full((3, 150, 200), 9, np.float32)
    for block in refined(model, recorded, Scan(vectors())):
        height, width = block.scores.shape[1:]
        there = np.s_[:, block.row : block.row + height, block.column : block.column + width]
        assert (found[there] == 9).all()  # no pixel twice
        found[there] = block.scores
    wanted = segment(model, pixels, vectors(), valid=valid, regions=squares)
    np.testing.assert_allclose(found, wanted.scores, atol=1e-6)
    assert not list(tmp_path.iterdir())


def test_a_small_scene_is_one_tile(tmp_path):
    pytest.importorskip("skimage")
    pixels, _ = disc()
    image, model = labels.Picture(pixels, np.ones(pixels.shape[:2], bool)), ColoursModel()
    regions = superpixels(8)
    (block,) = Refined(regions, str(tmp_path), side=100, margin=28)(model, image, Scan(vectors()))
    wanted = segment(model, pixels, vectors(), regions=regions).scores
    np.testing.assert_array_equal(block.scores, wanted)
    assert len(list(blocks(model, image, Scan(vectors())))) == 1


def test_an_image_smaller_than_a_window_is_refused():
    with pytest.raises(UserError, match="30 x 20 pixels, the model sees 32 x 32"):
        segment(ColoursModel(), made.plain((0, 0, 0), 20, 30), vectors())


def test_superpixels_that_are_too_small_are_refused():
    with pytest.raises(UserError, match="superpixels of 1 pixels"):
        superpixels(1)
