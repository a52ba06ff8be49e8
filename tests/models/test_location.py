import build
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from rsvl_jax.errors import UserError
from rsvl_jax.models import location
from rsvl_jax.models.location import GEOCLIP, SATCLIP, LocationConfig, LocationEncoder

RNG = np.random.default_rng(0)
LON = np.concatenate([RNG.uniform(-180, 180, 3000), [-180, 180, 0, 12, 77]])
LAT = np.concatenate([np.degrees(np.arcsin(RNG.uniform(-1, 1, 3000))), [0, 0, 90, -90, 89.999]])
HARMONICS = jax.jit(location.spherical_harmonics, static_argnames="degree")


@pytest.mark.parametrize(("degree", "bound"), [(10, 1.2e-5), (40, 1.9e-4)])
def test_harmonics_against_float64(degree, bound):
    """scipy with pi on m = 0 and odd m without their phase: SatCLIP's analytic variant."""
    features = HARMONICS(lon=LON, lat=LAT, degree=degree)
    assert features.shape == (len(LON), degree**2)
    expected = reference.satclip_harmonics(LON, LAT, degree)
    np.testing.assert_allclose(features, expected, rtol=0, atol=bound)


def test_generated_constants_of_satclip():
    """microsoft/satclip's generated closed forms, theta from the south pole, phi from -180."""
    theta, phi = np.radians(LAT + 90), np.radians(LON + 180)
    features = np.asarray(HARMONICS(lon=LON, lat=LAT, degree=3))
    sine, cosine = np.sin(theta), np.cos(theta)
    expected = {
        0: np.full(len(LON), 0.886226925452758),
        1: 0.48860251190292 * sine * np.sin(phi),
        2: 1.53499006191973 * cosine,
        3: 0.48860251190292 * sine * np.cos(phi),
        4: 0.18209140509868 * (3 - 3 * cosine**2) * np.sin(2 * phi),
        5: 1.09254843059208 * sine * cosine * np.sin(phi),
    }
    for index, values in expected.items():
        np.testing.assert_allclose(features[:, index], values, atol=2e-6)


def test_harmonics_are_orthonormal_on_the_sphere():
    degree = 6
    nodes, weights = np.polynomial.legendre.leggauss(degree)
    lon = np.arange(2 * degree) * 180.0 / degree - 180
    grid_lat, grid_lon = np.meshgrid(np.degrees(np.arcsin(nodes)), lon, indexing="ij")
    area = np.repeat(weights * np.pi / degree, 2 * degree)
    features = HARMONICS(lon=grid_lon.ravel(), lat=grid_lat.ravel(), degree=degree)
    zonal = [level * (level + 1) for level in range(degree)]
    features = np.asarray(features, np.float64)
    features[:, zonal] /= np.pi
    np.testing.assert_allclose(features.T * area @ features, np.eye(degree**2), atol=2e-6)


def test_the_antimeridian_is_one_place():
    lat = np.linspace(-90, 90, 7)
    west, east = (HARMONICS(lon=np.full(7, lon), lat=lat, degree=40) for lon in (-180.0, 180.0))
    np.testing.assert_array_equal(west, east)


def test_poles_have_finite_gradients():
    def total(lon, lat):
        return (location.spherical_harmonics(lon=lon, lat=lat, degree=40) ** 2).sum()

    lon, lat = jnp.array([0.0, 50.0, -180.0]), jnp.array([90.0, -90.0, 90.0])
    for gradient in jax.jit(jax.grad(total, argnums=(0, 1)))(lon, lat):
        assert np.isfinite(gradient).all()


def test_equal_earth_closed_form():
    features = location.equal_earth(lon=np.array([180.0, 0, 30]), lat=np.array([0.0, 90, -45]))
    # Savric et al.: the whole equator is 2 * 2.7066 wide, a pole lies at y = 1.3173.
    half_width = 2 * np.sqrt(3) * np.pi / (3 * 1.340264)
    np.testing.assert_allclose(features[0], [1, 0], atol=1e-5)
    np.testing.assert_allclose(features[1], [0, 1.3173627 / half_width], atol=1e-5)
    theta = np.arcsin(np.sqrt(3) / 2 * np.sin(np.radians(-45)))
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * np.sqrt(3) * np.radians(30) * np.cos(theta) / (3 * slope)
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    scale = 66.50336 / 180
    np.testing.assert_allclose(features[2], [scale * x, scale * y], atol=1e-6)


@pytest.mark.parametrize(
    ("cfg", "params", "frozen"),
    [
        (LocationConfig(degree=10), 445_696, 0),
        (LocationConfig(degree=40), 1_213_696, 0),
        (GEOCLIP, 9_447_936, 3 * 256 * 2),
    ],
)
def test_parameter_counts_are_the_published_ones(cfg, params, frozen):
    assert build.count(lambda r: LocationEncoder(cfg, r)) == (params, frozen)


def test_siren_is_the_formula():
    cfg = LocationConfig(degree=4, width=12, dim=5)
    bind, p = build.randomised(lambda r: LocationEncoder(cfg, r))
    x = reference.satclip_harmonics(LON[:20], LAT[:20], 4)
    p = p["siren"]
    x = np.sin(30 * (x @ p["layer_0"]["kernel"] + p["layer_0"]["bias"]))
    x = np.sin(x @ p["layer_1"]["kernel"] + p["layer_1"]["bias"])
    expected = x @ p["out"]["kernel"] + p["out"]["bias"]
    actual = bind({"siren": p})(lon=LON[:20], lat=LAT[:20])
    np.testing.assert_allclose(actual, expected, atol=2e-3)


def test_siren_drops_before_the_sine_only_when_given_a_key():
    cfg = LocationConfig(degree=4, width=12, dim=5, dropout=SATCLIP.dropout)
    bind, params = build.randomised(lambda r: LocationEncoder(cfg, r))
    plain = bind(params)(lon=LON[:9], lat=LAT[:9])
    assert cfg.dropout == 0.5
    one, other = (
        bind(params)(lon=LON[:9], lat=LAT[:9], rng=jax.random.key(seed)) for seed in (0, 1)
    )
    assert np.abs(plain - one).max() > 1e-2 < np.abs(other - one).max()


def test_fourier_capsules_are_summed_and_frequencies_frozen():
    cfg = LocationConfig(kind="fourier", dim=5, width=8, depth=1, sigmas=(1.0, 16.0), frequencies=6)
    bind, params = build.randomised(lambda r: LocationEncoder(cfg, r))
    module = bind(params)
    place = np.asarray(location.equal_earth(lon=LON[:9], lat=LAT[:9]), np.float64)
    expected = 0
    for name in ("capsule_0", "capsule_1"):
        p, frequencies = params[name], np.asarray(getattr(module, name).frequencies[...])
        angle = 2 * np.pi * place @ frequencies.T
        x = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        x = np.maximum(x @ p["layer_0"]["kernel"] + p["layer_0"]["bias"], 0)
        expected = expected + x @ p["out"]["kernel"] + p["out"]["bias"]
    np.testing.assert_allclose(module(lon=LON[:9], lat=LAT[:9]), expected, atol=1e-4)
    assert np.std(module.capsule_1.frequencies) > 5 * np.std(module.capsule_0.frequencies)


def test_unknown_kind_is_refused():
    with pytest.raises(UserError, match="wrap"):
        LocationConfig(kind="wrap")
