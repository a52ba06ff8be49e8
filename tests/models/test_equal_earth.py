import math

import jax
import numpy as np

from rsvl_jax.models import equal_earth

RNG = np.random.default_rng(0)
LON = np.r_[RNG.uniform(-180, 180, 4000), -180, 180, 0, 179.99].astype(np.float32)
LAT = np.r_[RNG.uniform(-90, 90, 4000), -90, 90, 0, 0.5].astype(np.float32)


def closed_form(lon, lat):
    """Savric et al. 2018, in float64."""
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    lon, lat = np.radians(lon.astype(float)), np.radians(lat.astype(float))
    theta = np.arcsin(equal_earth.ROOT_3 / 2 * np.sin(lat))
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * equal_earth.ROOT_3 * lon * np.cos(theta) / (3 * slope)
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return 66.50336 / 180 * np.stack([x, y], axis=-1)


def place(lon, lat):
    return jax.jit(lambda lon, lat: equal_earth.place(lon=lon, lat=lat))(lon, lat)


def test_a_place_is_right_to_a_billionth():
    high, low = (np.asarray(part, np.float64) for part in place(LON, LAT))
    assert np.abs(high + low - closed_form(LON, LAT)).max() < 1e-9
    assert np.abs(low).max() < 0.02
    assert abs(equal_earth.ROOT_3 - math.sqrt(3)) < 1e-7


def test_turns_of_high_frequencies_are_exact():
    frequencies = (256 * RNG.standard_normal((32, 2))).astype(np.float32)
    actual = np.asarray(jax.jit(equal_earth.turns)(*place(LON, LAT), frequencies), np.float64)
    wrong = actual - closed_form(LON, LAT) @ frequencies.T.astype(float)
    assert np.abs(wrong - np.round(wrong)).max() < 2e-6
    assert np.abs(actual).max() < 10


def test_gradients_are_those_of_the_projection():
    frequencies = np.float32([[3.0, -2.0]])
    lon, lat = np.float32([12.3, -100.2]), np.float32([-33.3, 71.8])

    def total(lon, lat):
        return equal_earth.turns(*equal_earth.place(lon=lon, lat=lat), frequencies).sum()

    step = 1e-3
    for axis, gradient in enumerate(jax.grad(total, (0, 1))(lon, lat)):
        shift = step * np.eye(2)[axis]
        up, down = (
            closed_form(lon.astype(float) + s * shift[0], lat.astype(float) + s * shift[1])
            for s in (1, -1)
        )
        expected = (up - down) @ frequencies[0] / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-4)
