import agreement
import geoclip_package
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stored

from rsvl_jax.errors import UserError
from rsvl_jax.weights.families import geoclip, satclip
from rsvl_jax.weights.sources import open_source

PARIS = (2.3522, 48.8566)
SYDNEY = (151.2093, -33.8688)


def embed(model, lon, lat, arrays=None):
    return jax.jit(lambda lon, lat: model.module("location", arrays)(lon=lon, lat=lat))(lon, lat)


@pytest.fixture(scope="module")
def package():
    """The package's weights as ours."""
    arrays = open_source(geoclip_package.weights()).arrays
    return agreement.imported(geoclip.FAMILY, {name: arrays[name] for name in arrays})


def test_satclip_embeds_as_its_original():
    case = stored.read("satclip")
    model = agreement.imported(satclip.FAMILY, case.weights)
    assert model.model.settings["location"]["degree"] == 4
    agreement.check_close(
        {"embedding": embed(model, case.inputs["lon"], case.inputs["lat"])}, case.outputs, 1e-5
    )


def test_satclip_gradients_are_its_originals():
    case = stored.read("satclip")
    model = agreement.imported(satclip.FAMILY, case.weights)

    def loss(arrays):
        out = embed(model, case.inputs["lon"], case.inputs["lat"], arrays)
        return (out * jnp.linspace(-1, 1, 5)).sum()

    gradients = agreement.exported(model, jax.grad(loss)(model.arrays))
    expected = {n: g for n, g in case.gradients.items() if n in gradients}
    assert len(expected) == 6
    agreement.check_gradients(gradients, expected, 1e-5)


@pytest.mark.parametrize("start", ["model.nnet.", "location.nnet.", "nnet."])
def test_satclip_wherever_its_network_stands(start):
    case = stored.read("satclip")
    released = "model.location.nnet."
    weights = {
        name.replace(released, start): value
        for name, value in case.weights.items()
        if name.startswith(released)
    }
    if start == "model.nnet.":
        weights = {f"lightning.{name}": value for name, value in weights.items()}
    model = agreement.imported(satclip.FAMILY, weights)
    whole = agreement.imported(satclip.FAMILY, case.weights)
    for path, value in whole.arrays.items():
        np.testing.assert_array_equal(model.arrays[path], value)
    assert set(agreement.exported(model)) == set(weights)


def test_satclip_on_other_encodings_is_refused():
    shapes = {
        "nnet.layers.0.weight": (8, 3),
        "nnet.layers.0.bias": (8,),
        "nnet.last_layer.weight": (4, 8),
        "nnet.last_layer.bias": (4,),
    }
    with pytest.raises(UserError, match="3 features, not a square"):
        satclip.FAMILY.model(shapes, {})


def test_geoclip_package_embeds_as_its_original(package):
    case = stored.read("geoclip")
    lon, lat = case.inputs["lon"], case.inputs["lat"]
    ours = np.asarray(embed(package, lon, lat))
    assert np.abs(ours - case.outputs["exact"]).max() < 1e-6
    # In float32 the package itself is 1e-5 away from what it computes in float64.
    single = case.outputs["float32"]
    own = np.abs(single - case.outputs["exact"][: len(single)]).max()
    assert 5e-6 < own < 2e-5
    assert np.abs(ours[: len(single)] - single).max() < own + 1e-6


def test_geoclip_frequencies_are_frozen(package):
    names = {f"location/capsule_{index}/frequencies" for index in range(3)}
    assert package.frozen == names
    spread = [np.std(package.arrays[name]) for name in sorted(names)]
    np.testing.assert_allclose(spread, [1, 16, 256], rtol=0.1)


def test_geoclip_export_is_the_package(package):
    arrays = open_source(geoclip_package.weights()).arrays
    back = agreement.exported(package)
    assert set(back) == set(arrays)
    assert all(np.array_equal(back[name], arrays[name]) for name in arrays)


@pytest.mark.parametrize("city", [PARIS, SYDNEY])
def test_geoclip_finds_a_city_in_part_of_the_gallery(package, city):
    assert nearest(package, city, every=25, count=3).max() < 500


@pytest.mark.slow
@pytest.mark.parametrize("city", [PARIS, SYDNEY])
def test_geoclip_finds_a_city_in_the_gallery(package, city):
    assert nearest(package, city, every=1, count=20).max() < 25


def nearest(package, city, *, every, count):
    """Distances in km from a city to the gallery's points whose embeddings are closest to its."""
    lon, lat = (axis[::every] for axis in geoclip_package.gallery())
    run = jax.jit(lambda lon, lat: package.module("location")(lon=lon, lat=lat))
    chunks = range(0, len(lon), 4000)
    points = np.concatenate([run(lon[i : i + 4000], lat[i : i + 4000]) for i in chunks])
    here = np.asarray(run(*(np.float32([value]) for value in city)))[0]
    cosine = points @ here / np.linalg.norm(points, axis=1)
    best = np.argsort(-cosine)[:count]
    return kilometres(lon[best], lat[best], *city)


def kilometres(lon, lat, other_lon, other_lat):
    a, b = (vectors(*place) for place in ((lon, lat), (other_lon, other_lat)))
    return 6371 * np.arccos(np.clip(a @ b, -1, 1))


def vectors(lon, lat):
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)
