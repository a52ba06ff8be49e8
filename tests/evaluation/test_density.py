"""Densities beside a truth: cells, coefficients, and a scene seen by a model that knows."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from scipy import stats

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import density as task
from rsvl_jax.evaluation import density
from rsvl_jax.evaluation.card import Provenance
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.parallel.mesh import make_mesh

RNG = np.random.default_rng(0)


def test_cells_are_means_of_what_is_known():
    values = np.arange(30.0).reshape(5, 6)
    values[0, 0] = values[0, 2] = values[0, 3] = values[1, 2] = np.nan
    found = density.cells(values, 2)
    assert found.shape == (2, 3)
    np.testing.assert_allclose(found[:, 0], [np.mean([1, 6, 7]), np.mean([12, 13, 18, 19])])
    assert np.isnan(found[0, 1])  # one of four


def test_coefficients_are_scipys():
    left, right = RNG.random((24, 40)), RNG.random((24, 40))
    right += left
    left[:4, :4] = np.nan
    found = density.correlation(left, right, 4, seed=0)
    x, y = (density.cells(each, 4).reshape(-1)[1:] for each in (left, right))
    assert found.cells == len(x) == 59
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.pearson_interval[0] < found.pearson < found.pearson_interval[1]


@pytest.mark.parametrize(
    ("left", "right", "message"),
    [
        (np.ones((8, 8)), np.ones((8, 9)), "align them"),
        (np.ones((8, 8)), np.arange(64.0).reshape(8, 8), "do not vary"),
        (np.full((8, 8), np.nan), np.ones((8, 8)), "0 known cells"),
        (np.ones((1, 8)), np.ones((1, 8)), "no cell of 2 pixels fits"),
    ],
)
def test_what_cannot_be_correlated_is_an_error(left, right, message):
    with pytest.raises(UserError, match=message):
        density.correlation(left, right, 2, seed=0)


def subject(texts=True):
    """A model that sees red: patches of 4 pixels in images of 16."""

    def images(pixels):
        red = jnp.asarray(pixels, jnp.float32)[..., 0].reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4))
        red = red.reshape(-1, 16) / 255
        return {"text_patches": jnp.stack([red, 1 - red], axis=-1)}

    def read(texts):
        return jnp.tile(jnp.array([[1.0, 0.0]]), (len(texts), 1))

    encoders = Encoders(images=images, texts=read if texts else None, image_size=16)
    return SimpleNamespace(
        encoders=encoders,
        texts=lambda texts: np.asarray(read(texts)),
        provenance=Provenance(),
        mesh=make_mesh(),
        batch_size=8,
        seed=0,
    )


def write(path, values, transform, **changes):
    profile = {"driver": "GTiff", "height": values.shape[1], "width": values.shape[2]}
    profile |= {"count": len(values), "dtype": values.dtype, "crs": "EPSG:32618"} | changes
    with rasterio.open(path, "w", transform=transform, **profile) as file:
        file.write(values)


@pytest.fixture
def scene(tmp_path):
    """A scene of 74 x 90 pixels whose redness is known at a fourth of its resolution."""
    coarse = RNG.integers(0, 256, (1, 20, 24)).astype(np.uint8)
    fine = np.broadcast_to(coarse.repeat(4, 1).repeat(4, 2), (3, 80, 96))[:, :74, :90]
    write(tmp_path / "scene.tif", fine.copy(), from_origin(4e5, 4e6, 10, 10))
    write(tmp_path / "truth.tif", coarse.astype(np.float32), from_origin(4e5, 4e6, 40, 40))
    return tmp_path


def spec(folder, **options):
    return Spec("t", "density", "made", str(folder), {"query": "farmland", "cell": 2, **options})


def test_a_model_that_knows_follows_the_truth(scene):
    found = {card.metric: card for card in task.score(subject(), spec(scene))}
    assert found["spearman"].value > 0.95 and found["pearson"].value > 0.9  # a cosine is no share
    assert found["spearman"].n == 9 * 11 and found["spearman"].task == "made/density/farmland"
    exact = {card.metric: card for card in task.score(subject(), spec(scene, cell=1))}
    assert exact["spearman"].value == pytest.approx(1)
    assert exact["spearman"].n == 18 * 22


def test_the_truth_may_lie_elsewhere_on_earth_or_not_at_all(scene):
    turned = np.full((1, 8, 8), 5, np.float32)
    write(scene / "far.tif", turned, from_origin(9e5, 5e6, 40, 40))
    with pytest.raises(UserError, match="do not overlap"):
        task.score(subject(), spec(scene, truth="far.tif"))
    with pytest.raises(UserError, match="no truth .*none.tif"):
        task.score(subject(), spec(scene, truth="none.tif"))
    with pytest.raises(UserError, match="has 1 bands .* band 2"):
        task.score(subject(), spec(scene, band=2))
    with pytest.raises(UserError, match="needs a query"):
        task.score(subject(), spec(scene, query=""))


def test_without_texts_the_card_says_so(scene):
    cards = task.score(subject(texts=False), spec(scene))
    assert [card.value for card in cards] == [None, None]
