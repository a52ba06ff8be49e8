"""Location encoders: coordinates to embeddings, SatCLIP's and GeoCLIP's.

Longitude and latitude are keyword-only and in degrees everywhere: the two methods take them in
opposite orders. Everything runs in float32, whatever the precision of the rest.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rsvl_jax.errors import UserError
from rsvl_jax.models import equal_earth as projection
from rsvl_jax.models.layers import Frozen, Init, Linear, uniform
from rsvl_jax.models.transformer import dropout

KINDS = ("spherical_harmonics", "fourier")
SIREN_FREQUENCY = 30.0  # of the first layer; 1 after


@dataclass(frozen=True)
class LocationConfig:
    """An encoder of coordinates; the defaults are the released SatCLIP's, at degree 40.

    kind: "spherical_harmonics" (SatCLIP) or "fourier" (GeoCLIP) · dim: of the embedding · width
    and depth: hidden layers · degree: L, giving L^2 harmonics · dropout: before each sine, SatCLIP
    trains with 0.5 · sigmas and frequencies: one capsule a sigma, in cycles a projected unit.
    """

    kind: str = "spherical_harmonics"
    dim: int = 256
    width: int = 512
    depth: int = 2
    degree: int = 40
    dropout: float = 0.0
    sigmas: tuple[float, ...] = (1.0, 16.0, 256.0)
    frequencies: int = 256

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"unknown location encoder {self.kind!r}: choose one of {KINDS}")


SATCLIP = LocationConfig(dropout=0.5)
GEOCLIP = LocationConfig(kind="fourier", dim=512, width=1024, depth=3)


class LocationEncoder(nnx.Module):
    """(lon, lat) -> embedding, by `cfg.kind`."""

    def __init__(self, cfg: LocationConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        if cfg.kind == "spherical_harmonics":
            self.siren = Siren(cfg, rngs)
        else:
            # Names, not a list: the parameter tree stays a nested dict with string keys.
            for index, sigma in enumerate(cfg.sigmas):
                setattr(self, f"capsule_{index}", Capsule(cfg, sigma, rngs))

    def __call__(
        self, *, lon: jax.Array, lat: jax.Array, rng: jax.Array | None = None
    ) -> jax.Array:
        """lon, lat float [B], degrees -> float32 [B, dim]. rng: key for dropout while training."""
        if self.cfg.kind == "spherical_harmonics":
            return self.siren(spherical_harmonics(lon=lon, lat=lat, degree=self.cfg.degree), rng)
        place = projection.place(lon=lon, lat=lat)
        capsules = [getattr(self, f"capsule_{index}") for index in range(len(self.cfg.sigmas))]
        return sum((capsule(*place) for capsule in capsules), jnp.zeros(()))


class Siren(nnx.Module):
    """SatCLIP's network on the harmonics: sine layers, then a linear one (arXiv:2006.09661)."""

    def __init__(self, cfg: LocationConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        din = cfg.degree**2
        for index in range(cfg.depth):
            bound = math.sqrt(6 / din) if index else 1 / din
            setattr(self, f"layer_{index}", _dense(din, cfg.width, rngs, uniform(bound)))
            din = cfg.width
        self.out = _dense(din, cfg.dim, rngs, uniform(math.sqrt(6 / din)))

    def __call__(self, x: jax.Array, rng: jax.Array | None) -> jax.Array:
        """Harmonics [B, L^2] -> [B, dim]."""
        keys = [None] * self.cfg.depth if rng is None else jax.random.split(rng, self.cfg.depth)
        for index in range(self.cfg.depth):
            x = dropout(_apply(getattr(self, f"layer_{index}"), x), self.cfg.dropout, keys[index])
            x = jnp.sin(x if index else SIREN_FREQUENCY * x)
        return _apply(self.out, x)


class Capsule(nnx.Module):
    """One scale of GeoCLIP: [cos, sin](2 pi B place), ReLU layers, a linear one."""

    def __init__(self, cfg: LocationConfig, sigma: float, rngs: nnx.Rngs):
        self.depth = cfg.depth
        draw = jax.random.normal(rngs.params(), (cfg.frequencies, 2))
        self.frequencies = Frozen(sigma * draw, axes=(None, None))
        din = 2 * cfg.frequencies
        for index in range(cfg.depth):
            setattr(self, f"layer_{index}", _dense(din, cfg.width, rngs, uniform(din**-0.5)))
            din = cfg.width
        self.out = _dense(din, cfg.dim, rngs, uniform(din**-0.5))

    def __call__(self, high: jax.Array, low: jax.Array) -> jax.Array:
        """Projected coordinates [B, 2], the sum of two (see `equal_earth.place`) -> [B, dim]."""
        angle = 2 * np.pi * projection.turns(high, low, self.frequencies[...])
        x = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        for index in range(self.depth):
            x = jax.nn.relu(_apply(getattr(self, f"layer_{index}"), x))
        return _apply(self.out, x)


def spherical_harmonics(*, lon: jax.Array, lat: jax.Array, degree: int) -> jax.Array:
    """Real spherical harmonics as SatCLIP was trained with, float32 [B, degree^2].

    Order l = 0 .. degree-1, m = -l .. l. No Condon-Shortley phase, and the m = 0 features are pi
    times the orthonormal ones: the "analytic" variant of microsoft/satclip, whose released weights
    need that slip (microsoft/satclip#33). Accurate to 1.2e-5 at degree 10, 1.9e-4 at degree 40.
    """
    lon, lat = jnp.asarray(lon, jnp.float32), jnp.asarray(lat, jnp.float32)
    # theta counts from the south pole, so that cos(theta) = -sin(lat) and sin(theta) = cos(lat).
    legendre = _legendre(-jnp.sin(jnp.radians(lat)), jnp.cos(jnp.radians(lat)), degree)
    # Reduced before it is multiplied by m: -180 and 180 are the same place to the last bit.
    phi = jnp.radians(jnp.mod(lon + 180.0, 360.0))
    level, order = _orders(degree)
    angle = phi[:, None] * jnp.arange(degree, dtype=jnp.float32)
    waves = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)
    factor = jnp.asarray(np.where(order == 0, np.pi, np.sqrt(2.0)), jnp.float32)
    table = legendre.reshape(lon.shape[0], degree * degree)[:, level * degree + np.abs(order)]
    return factor * table * waves[:, np.where(order < 0, -order, degree + order)]


def equal_earth(*, lon: jax.Array, lat: jax.Array) -> jax.Array:
    """Equal Earth projection (Savric et al. 2018), float32 [B, 2], scaled to x in [-1, 1]."""
    high, low = projection.place(lon=lon, lat=lat)
    return high + low


def _legendre(x: jax.Array, s: jax.Array, degree: int) -> jax.Array:
    """Fully normalised Legendre functions P_lm(x), s = sqrt(1 - x^2): [B] -> [B, l, m].

    The three-term recurrence in l, for all m at once; stable in float32. The diagonal l = m comes
    from its own product, so nothing is divided by s and the poles stay smooth.
    """
    a, b, diagonal = _recurrence(degree)
    x, s = x[:, None], s[:, None]
    seed = jnp.full_like(s, math.sqrt(1 / (4 * math.pi)))

    def level(carry, row):
        last, before, corner = carry
        index, a_row, b_row, step = row
        corner = jnp.where(index == 0, seed, corner * step * s)
        new = a_row * x * last - b_row * before
        new = jnp.where(jnp.arange(degree) == index, corner, new)
        return (new, last, corner), new

    empty = jnp.zeros((x.shape[0], degree), jnp.float32)
    rows = (jnp.arange(degree), jnp.asarray(a), jnp.asarray(b), jnp.asarray(diagonal))
    return jax.lax.scan(level, (empty, empty, seed), rows)[1].swapaxes(0, 1)


def _recurrence(degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients a[l, m], b[l, m] (zero where m >= l) and the diagonal's d[l], float32."""
    level, order = np.meshgrid(np.arange(degree), np.arange(degree), indexing="ij")
    a, b = np.zeros((2, degree, degree))
    inside = order < level
    l, m = level[inside].astype(float), order[inside].astype(float)  # noqa: E741
    a[inside] = np.sqrt((4 * l**2 - 1) / (l**2 - m**2))
    # m = l - 1 makes the last factor zero; the guard keeps l = 1 from dividing by 2l - 3 < 0.
    tail = np.maximum((l - 1) ** 2 - m**2, 0) / (l**2 - m**2)
    b[inside] = np.sqrt((2 * l + 1) / np.abs(2 * l - 3) * tail)
    diagonal = np.sqrt(1 + 1 / (2 * np.maximum(np.arange(degree), 1)))
    return a.astype(np.float32), b.astype(np.float32), diagonal.astype(np.float32)


def _orders(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """(l, m) of every feature, int [degree^2] each."""
    pairs = [(l, m) for l in range(degree) for m in range(-l, l + 1)]  # noqa: E741
    level, order = np.array(pairs).T
    return level, order


def _dense(din: int, dout: int, rngs: nnx.Rngs, init: Init) -> Linear:
    axes = ("features", "mlp")
    return Linear(din, dout, rngs, axes=axes, init=init, bias_init=init)


def _apply(layer: Linear, x: jax.Array) -> jax.Array:
    # Sines turn an absolute error of the argument into one of the output: no bfloat16 products.
    assert layer.bias is not None
    return jnp.matmul(x, layer.kernel[...], precision="highest") + layer.bias[...]
