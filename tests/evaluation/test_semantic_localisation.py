"""Semantic localisation and density, on maps made by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import density
from rsvl_jax.evaluation import semantic_localisation as selo
from rsvl_jax.evaluation_sets import air_slt

sys.path.append(str(Path(__file__).parents[1] / "evaluation_sets"))
import made_sets  # noqa: E402

SQUARE = np.array([[400, 400], [600, 400], [600, 600], [400, 600]], np.float64)


def bump(x, y, width=60.0, shape=(1200, 1200)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))


def test_a_peak_in_the_middle_is_as_good_as_can_be():
    found = selo.indicators(bump(500, 500), [SQUARE])
    assert found.rda == 1.0 and found.ras < 0.02 and found.rsu > 0.95
    assert found.rmi == pytest.approx(0.4 * found.rsu + 0.35 * (1 - found.ras) + 0.25)


def test_a_peak_elsewhere_is_as_bad_as_can_be():
    found = selo.indicators(bump(1000, 1000), [SQUARE])
    assert found.rda == 0.0 and found.ras == 1.0 and found.rsu < 0.05
    nothing = selo.indicators(np.zeros((1200, 1200)), [SQUARE])
    assert (nothing.rda, nothing.ras, nothing.rsu) == (0.0, 1.0, 0.0)


def test_a_shifted_peak_counts_by_its_distance():
    # Corners are 141.4 px from the middle: the circle reaches 212 px.
    found = selo.indicators(bump(560, 500), [SQUARE])
    offset = 60 / 212
    expected = (np.exp(3 * offset) - 1) / (np.exp(3) - 1)
    assert found.ras == pytest.approx(expected, abs=0.01)


def test_rsu_by_hand():
    prob = np.full((100, 100), 0.5)
    prob[20:41, 20:41] = 1.0
    region = np.array([[20, 20], [40, 20], [40, 40], [20, 40]])
    inside, area = 441.0, 441
    weight = inside / (prob.sum() - inside)
    expected = 1 - np.exp(-0.707 * weight * (10_000 - area) / area)
    assert selo.indicators(prob, [region]).rsu == pytest.approx(expected, rel=1e-6)


def test_windows_cover_the_scene_and_stay_inside():
    places = selo.windows(700, 1000, (256, 512, 768))
    assert {side for _, _, side in places} == {256, 512}
    seen = np.zeros((700, 1000), bool)
    for row, column, side in places:
        assert 0 <= row <= 700 - side and 0 <= column <= 1000 - side
        seen[row : row + side, column : column + side] = True
    assert seen.all() and len(set(places)) == len(places)
    assert selo.windows(100, 300) == [(0, 0, 100), (0, 100, 100), (0, 200, 100)] + [
        (0, 50, 100),
        (0, 150, 100),
    ]


def test_the_map_finds_what_the_encoder_sees():
    image = np.zeros((600, 600, 3), np.uint8)
    image[200:400, 200:400, 0] = 255

    def embed(windows):
        red = np.array([w[..., 0].mean() / 255 for w in windows])
        return np.stack([red, np.sqrt(1 - red**2)], axis=1)

    texts = np.array([[1.0, 0.0], [0.0, 1.0]])
    red, black = selo.localise(image, embed, texts, scales=(100, 200))
    region = np.array([[200, 200], [400, 200], [400, 400], [200, 400]])
    assert selo.indicators(red, [region]).rmi > 0.9 > selo.indicators(black, [region]).rmi


def test_annotations_are_read(tmp_path):
    made_sets.image(tmp_path / "imgs" / "1.jpg")
    entry = {"jpg_name": "1.jpg", "caption": "a port", "points": [[[0, 0], [4, 0], [4, 4]]]}
    path = tmp_path / "annotations" / "anno.json"
    path.parent.mkdir()
    path.write_text(json.dumps([entry]))
    found = air_slt.read(str(tmp_path))[0]
    assert found.text == "a port" and found.regions[0].shape == (3, 2)
    for change, what in (
        ({"jpg_name": "2.jpg"}, "about '2.jpg', which is not there"),
        ({"points": [[[0, 0], [4, 0]]]}, "no polygon"),
        ({"caption": None, "points": 5}, "is damaged"),
    ):
        path.write_text(json.dumps([entry | change]))
        with pytest.raises(UserError, match=what):
            air_slt.read(str(tmp_path))
    path.write_text("[]")
    with pytest.raises(UserError, match="no annotation file"):
        air_slt.read(str(tmp_path))
    path.unlink()
    with pytest.raises(UserError, match="has no anno.json"):
        air_slt.read(str(tmp_path))


def test_correlations_are_those_of_scipy():
    rng = np.random.default_rng(0)
    truth = rng.random((40, 60))
    guess = truth + rng.normal(size=truth.shape) * 0.3
    guess[:5, :5] = np.nan
    found = density.correlation(guess, truth, 5, seed=0)
    x = guess.reshape(8, 5, 12, 5).mean(axis=(1, 3)).ravel()
    y = truth.reshape(8, 5, 12, 5).mean(axis=(1, 3)).ravel()
    known = np.isfinite(x)
    assert found.cells == known.sum() == 95
    assert found.pearson == pytest.approx(stats.pearsonr(x[known], y[known]).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x[known], y[known]).statistic)
    assert found.pearson_interval[0] < found.pearson < found.pearson_interval[1]


def test_cells_need_half_of_their_pixels():
    values = np.full((4, 4), np.nan)
    values[0, :2] = 3.0
    values[2, 2] = 1.0
    found = density.cells(values, 2)
    assert found[0, 0] == 3.0 and np.isnan(found[1, 1]) and np.isnan(found[0, 1])
    with pytest.raises(UserError, match="no cell of 9 pixels"):
        density.cells(values, 9)
    with pytest.raises(UserError, match="align them"):
        density.correlation(values, values[:2], 1, seed=0)
    with pytest.raises(UserError, match="do not vary"):
        density.correlation(np.ones((8, 8)), np.ones((8, 8)), 2, seed=0)
