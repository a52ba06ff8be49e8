"""The Equal Earth projection and phases on it, exact enough for GeoCLIP's highest frequencies.

The last capsule turns about 256 times for each projected unit, so that what float32 loses in the
projection (2e-7) becomes a thousandth of a turn, and 2e-5 in an embedding whose features are
smaller than 0.1. Here a place is the sum of two floats and is right to 1e-9, on every device:
the projection is a table of polynomials of the latitude, fitted in float64 on the host.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

COEFFICIENTS = (1.340264, -0.081106, 0.000893, 0.003796)
SCALE = 66.50336 / 180
ROOT_3 = float(np.float32(math.sqrt(3)))  # geo-clip has it in float32, even where all else is not
_DEGREE = 5  # of the polynomials, each for the degree of latitude around its node
_BITS = 16  # of the first coefficient of x: times a whole degree of longitude, it stays exact


def place(*, lon: jax.Array, lat: jax.Array) -> tuple[jax.Array, jax.Array]:
    """lon, lat float [B] in degrees -> (x, y) float32 [B, 2] as a sum of two, x in [-1, 1].

    Savric et al. 2018, scaled as VicenteVivan/geo-clip does. The second of the two is small.
    """
    lon, lat = jnp.asarray(lon, jnp.float32), jnp.asarray(lat, jnp.float32)
    node, whole = jnp.clip(jnp.round(lat), -90, 90), jnp.round(lon)
    first, rest, slopes = (jnp.asarray(part)[node.astype(int) + 90] for part in _table())
    away = (lat - node)[:, None]
    tail = jnp.zeros_like(rest)
    for power in reversed(range(_DEGREE)):
        tail = (tail + slopes[..., power]) * away
    tail = tail + rest
    high = jnp.stack([whole * first[:, 0], first[:, 1]], axis=-1)
    low = jnp.stack([(lon - whole) * first[:, 0] + lon * tail[:, 0], tail[:, 1]], axis=-1)
    return high, low


def turns(high: jax.Array, low: jax.Array, frequencies: jax.Array) -> jax.Array:
    """(high + low) . frequencies less whole turns: [B, 2], [B, 2], [F, 2] -> float32 [B, F].

    Frequencies in turns a projected unit, below 8192. Both factors are cut in two such that the
    product of the coarse parts, which holds the whole turns, is exact.
    """
    coarse = jnp.round(high * 256) / 256
    steps = jnp.round(frequencies * 8) / 8
    whole = coarse[:, None] * steps
    fine = (high - coarse + low)[:, None] * steps + (high + low)[:, None] * (frequencies - steps)
    return (whole - jnp.round(whole) + fine).sum(-1)


@functools.cache
def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each degree of latitude x/lon and y at the node, as two floats [181, 2], and slopes.

    Slopes: float32 [181, 2, 5], the coefficients of the powers of what the latitude is away.
    """
    away = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1)) / 2
    nodes = np.arange(-90, 91)
    powers = np.vander(away, _DEGREE + 1, increasing=True)
    values = np.stack(_project(nodes[:, None] + away), axis=-1)  # [181, 6, 2]
    fitted = np.linalg.solve(powers, values).swapaxes(1, 2)
    exact = np.stack(_project(nodes.astype(float)), axis=-1)
    first = exact.astype(np.float32)
    unit = 2.0 ** (np.ceil(np.log2(np.maximum(exact[:, 0], 1e-30))) - _BITS)
    first[:, 0] = np.round(exact[:, 0] / unit) * unit
    return first, (exact - first).astype(np.float32), fitted[..., 1:].astype(np.float32)


def _project(lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x for each degree of longitude, and y, float64, of latitudes in degrees."""
    a1, a2, a3, a4 = COEFFICIENTS
    theta = np.arcsin(ROOT_3 / 2 * np.sin(np.radians(lat)))
    slope = 9 * a4 * theta**8 + 7 * a3 * theta**6 + 3 * a2 * theta**2 + a1
    x = 2 * ROOT_3 * np.radians(1.0) * np.cos(theta) / (3 * slope)
    y = a4 * theta**9 + a3 * theta**7 + a2 * theta**3 + a1 * theta
    return SCALE * x, SCALE * y
