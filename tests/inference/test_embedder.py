import jax
import numpy as np
import pytest
import tiny_runs
from PIL import Image

import rsvl_jax
from flavars_jax import inference
from flavars_jax.model import FlavarsModel
from flavars_jax.settings import from_config
from rsvl_jax.errors import UserError
from rsvl_jax.inference import Embedder
from rsvl_jax.models import functional
from rsvl_jax.models.location import LocationConfig
from rsvl_jax.weights import kinds, trees
from rsvl_jax.weights.family import Model

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (21, tiny_runs.SIZE, tiny_runs.SIZE, 3), np.uint8)
TEXTS = ["desert", "snow and ice", "", "open water " * 30]
LON, LAT = np.array([0.0, -180.0, 12.5]), np.array([90.0, -12.0, 45.25])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_runs.flavars(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def embedder(run):
    return rsvl_jax.load(run[0])


@pytest.fixture(scope="module")
def model(run):
    """The run's model as the method itself makes it."""
    settings = from_config(run[1])
    graph = functional.structure(lambda rngs: FlavarsModel(settings, rngs))
    return functional.bind(graph, run[2].params, run[2].frozen)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=2e-6, rtol=0)


def test_images_are_embedded_as_by_the_method(embedder, model):
    expected = jax.jit(lambda x: inference.images(model, x))(IMAGES)
    close(embedder.embed_images(IMAGES), expected["text_space"])
    close(embedder.embed_images(IMAGES, space="location"), expected["location_space"])
    raw = embedder.embed_images(IMAGES, space="features", normalize=False)
    np.testing.assert_allclose(raw, expected["mean"], atol=2e-5)
    patches = embedder.patch_embeddings(IMAGES, space="features", normalize=False)
    np.testing.assert_allclose(patches, expected["patches"], atol=2e-5)


def test_patches_lie_in_the_space_of_texts(embedder):
    patches = embedder.patch_embeddings(IMAGES[:2], normalize=False)
    assert patches.shape == (2, 4, tiny_runs.DIM)
    # The mean of the patches stands for the image, and projections are linear.
    whole = embedder.embed_images(IMAGES[:2], normalize=False)
    np.testing.assert_allclose(patches.mean(axis=1), whole, atol=2e-6)
    lengths = np.linalg.norm(embedder.patch_embeddings(IMAGES[:2]), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_texts_are_embedded_as_by_the_method(embedder, model, run, tmp_path):
    words = tiny_runs.tokenizer(tmp_path)
    rows = [words.encode(text, tiny_runs.LENGTH) for text in TEXTS]
    ids, masks = (np.stack(column) for column in zip(*rows, strict=True))
    expected = inference.texts(model, ids, masks)["text_space"]
    close(embedder.embed_texts(TEXTS), expected)


def test_places_are_embedded_as_by_the_method(embedder, model):
    close(embedder.embed_locations(lon=LON, lat=LAT), inference.locations(model, lon=LON, lat=LAT))


def test_rows_do_not_depend_on_their_batch(embedder, run):
    whole = embedder.embed_images(IMAGES)
    small = rsvl_jax.load(run[0], batch_size=8)
    assert small.batch_size == 8
    close(small.embed_images(IMAGES), whole)
    close(small.embed_images(iter(IMAGES)), whole)
    close(np.concatenate([embedder.embed_images(IMAGES[i : i + 1]) for i in range(3)]), whole[:3])


def test_a_function_is_compiled_once_for_all_batches(run):
    embedder = rsvl_jax.load(run[0], batch_size=8)
    embedder.embed_images(IMAGES)
    embedder.embed_images(IMAGES[:5])
    assert embedder._compiled("images", "", True)._cache_size() == 1


def test_batches_lie_on_all_devices(run):
    assert rsvl_jax.load(run[0], batch_size=9).batch_size == 2 * len(jax.local_devices())


def test_generators_are_read_no_further_than_two_batches(run):
    embedder = rsvl_jax.load(run[0], batch_size=8)
    read = []

    def images():
        for number in range(100):
            read.append(number)
            yield IMAGES[number % len(IMAGES)]

    rows = embedder._run(embedder._compiled("images", "", True), images(), lambda x: (x,))
    next(rows)
    assert len(read) <= 16
    rows.close()


def test_images_of_all_kinds_and_sizes(embedder, tmp_path):
    large = RNG.integers(0, 256, (40, 30, 3), np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(large).save(path)
    rows = embedder.embed_images([IMAGES[0], large, Image.fromarray(large), path])
    np.testing.assert_array_equal(rows[1], rows[2])
    np.testing.assert_array_equal(rows[1], rows[3])
    close(rows[0], embedder.embed_images(IMAGES[:1])[0])


def test_nothing_gives_no_rows(embedder):
    assert embedder.embed_images([]).shape == (0, tiny_runs.DIM)
    assert embedder.patch_embeddings([]).shape == (0, 4, tiny_runs.DIM)
    assert embedder.embed_texts([]).shape == (0, tiny_runs.DIM)
    assert embedder.embed_locations(lon=[], lat=[]).shape == (0, tiny_runs.PLACES)


def test_places_off_the_earth_are_refused(embedder):
    with pytest.raises(UserError, match=r"lat=120\.0 .*swapped"):
        embedder.embed_locations(lon=[0.0, 40.0], lat=[0.0, 120.0])
    with pytest.raises(UserError, match="lat=nan"):
        embedder.embed_locations(lon=[0.0], lat=[np.nan])
    with pytest.raises(UserError, match="lon=200"):
        embedder.embed_locations(lon=[200.0], lat=[0.0])
    with pytest.raises(UserError, match="same length"):
        embedder.embed_locations(lon=[1.0, 2.0], lat=[0.0])


def test_wrong_texts_and_spaces_are_refused(embedder):
    with pytest.raises(UserError, match="one text, 'desert'"):
        embedder.embed_texts("desert")
    with pytest.raises(UserError, match="not int: '5'"):
        embedder.embed_texts(["desert", 5])
    with pytest.raises(UserError, match="space 'colour': choose one of text, location, features"):
        embedder.embed_images(IMAGES, space="colour")


def test_a_location_encoder_has_no_other_tower():
    settings = {"location": {"degree": 4, "width": 8, "dim": 6}}
    model = Model("location", settings, kinds.parts("location", settings))
    embedder = Embedder(model, arrays_of(model))
    assert LocationConfig().kind == "spherical_harmonics"
    assert embedder.embed_locations(lon=LON, lat=LAT).shape == (3, 6)
    for call in (
        lambda: embedder.embed_images(IMAGES),
        lambda: embedder.patch_embeddings(IMAGES),
        lambda: embedder.embed_texts(TEXTS),
    ):
        with pytest.raises(UserError, match="kind 'location', has no encoder of (images|texts)"):
            call()


@pytest.mark.parametrize(
    ("preset", "spaces"),
    [
        ("satclip", (("location", "features"), (), ("location",))),
        ("clip", (("text", "features"), ("text", "features"), ())),
        ("mae", (("features",), (), ())),
    ],
)
def test_runs_of_other_objectives(preset, spaces, tmp_path):
    embedder = rsvl_jax.load(tiny_runs.flavars(tmp_path, preset)[0])
    assert tuple(embedder.spaces(what) for what in ("images", "texts", "locations")) == spaces
    assert np.isfinite(embedder.embed_images(IMAGES[:1])).all()


def test_models_that_embed_nothing_are_refused():
    with pytest.raises(UserError, match="'image_tokenizer' embeds nothing"):
        Embedder(Model("image_tokenizer", {}, {}), {})


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError):
        rsvl_jax.load(str(tmp_path / "nowhere"))


def arrays_of(model):
    """Arrays of chance for a model."""
    rng = np.random.default_rng(0)
    return {
        path: rng.standard_normal(shape).astype(np.float32)
        for path, shape in trees.shapes(model).items()
    }
