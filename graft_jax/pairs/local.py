"""The local metric grid of a tile: transverse Mercator on its centre, scale 1, WGS 84.

Vectorised over many centres at once, which a projection library cannot do: there a centre is a
coordinate system. Krüger's series to the fourth order of the third flattening, as in Karney,
"Transverse Mercator with an accuracy of a few nanometers" (2011); below a micrometre here.
"""

from dataclasses import dataclass

import numpy as np

_A, _F = 6378137.0, 1 / 298.257223563  # WGS 84
_N = _F / (2 - _F)
_E = np.sqrt(_F * (2 - _F))
_RADIUS = _A / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)  # of the rectifying sphere, metres
_ALPHA = (
    _N / 2 - 2 * _N**2 / 3 + 5 * _N**3 / 16 + 41 * _N**4 / 180,
    13 * _N**2 / 48 - 3 * _N**3 / 5 + 557 * _N**4 / 1440,
    61 * _N**3 / 240 - 103 * _N**4 / 140,
    49561 * _N**4 / 161280,
)
_BETA = (
    _N / 2 - 2 * _N**2 / 3 + 37 * _N**3 / 96 - _N**4 / 360,
    _N**2 / 48 + _N**3 / 15 - 437 * _N**4 / 1440,
    17 * _N**3 / 480 - 37 * _N**4 / 840,
    4397 * _N**4 / 161280,
)
_EDGE = np.array([(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y], float)


@dataclass(frozen=True)
class Grid:
    """The pixel grid of every tile: `size` x `size` pixels of `gsd` metres, centred, north up."""

    size: int
    gsd: float

    @property
    def half(self) -> float:
        """Half the width of a tile, metres."""
        return self.size * self.gsd / 2

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Pixel (x right, y down, from the left and top edge) to local metres, as `affine` does."""
        return (self.gsd, 0.0, -self.half, 0.0, -self.gsd, self.half)

    def pixels(self, *, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Local metres east and north of the centre to pixel coordinates, right and down."""
        return (x + self.half) / self.gsd, (self.half - y) / self.gsd


def crs(*, lon: float, lat: float) -> str:
    """The PROJ definition of the local grid around a place, degrees."""
    return f"+proj=tmerc +lat_0={lat!r} +lon_0={lon!r} +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m"


def to_metres(
    *, lon: np.ndarray, lat: np.ndarray, lon0: np.ndarray, lat0: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Metres east and north of centres (lon0, lat0) of places (lon, lat); degrees, float64 [n].

    Longitudes may lie on either side of the antimeridian.
    """
    turn = np.radians((lon - lon0 + 180) % 360 - 180)
    tangent = _conformal(lat)
    xi = np.arctan2(tangent, np.cos(turn))
    eta = np.arcsinh(np.sin(turn) / np.hypot(tangent, np.cos(turn)))
    east, north = _series(xi, eta, _ALPHA, 1)
    xi0 = np.arctan(_conformal(lat0))
    north0 = xi0 + sum(a * np.sin(2 * (j + 1) * xi0) for j, a in enumerate(_ALPHA))
    return _RADIUS * east, _RADIUS * (north - north0)


def to_degrees(
    *, x: np.ndarray, y: np.ndarray, lon0: np.ndarray, lat0: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Longitude and latitude of places x metres east and y north of (lon0, lat0), float64 [n].

    The longitude is not wrapped: it lies near lon0, beyond 180 where the antimeridian is between.
    """
    xi0 = np.arctan(_conformal(lat0))
    north0 = xi0 + sum(a * np.sin(2 * (j + 1) * xi0) for j, a in enumerate(_ALPHA))
    eta, xi = _series(y / _RADIUS + north0, x / _RADIUS, _BETA, -1)
    tangent = np.sin(xi) / np.hypot(np.sinh(eta), np.cos(xi))
    turn = np.arctan2(np.sinh(eta), np.cos(xi))
    return lon0 + np.degrees(turn), np.degrees(np.arctan(_geodetic(tangent)))


def footprint(*, lon: np.ndarray, lat: np.ndarray, half: float) -> np.ndarray:
    """The lon/lat box around square tiles: W, S, E, N degrees, float64 [n, 4].

    half: half the tile's width, metres. W may lie below -180 or E above 180, never both wrapped.
    Corners and middles of the edges bound the square wherever it does not hold a pole.
    """
    x, y = half * _EDGE.T[:, :, None]
    edge_lon, edge_lat = to_degrees(x=x, y=y, lon0=lon[None], lat0=lat[None])
    ends = (edge_lon.min(0), edge_lat.min(0), edge_lon.max(0), edge_lat.max(0))
    return np.stack(ends, -1)


def _conformal(lat: np.ndarray) -> np.ndarray:
    """Tangent of the conformal latitude."""
    sine = np.sin(np.radians(lat))
    return np.sinh(np.arctanh(sine) - _E * np.arctanh(_E * sine))


def _geodetic(tangent: np.ndarray) -> np.ndarray:
    """Tangent of the geodetic latitude, by Newton's method (Karney 2011, equations 19 to 21)."""
    tau = tangent / (1 - _E**2)
    for _ in range(4):
        root = np.hypot(1, tau)
        sigma = np.sinh(_E * np.arctanh(_E * tau / root))
        guess = tau * np.hypot(1, sigma) - sigma * root
        slope = (1 + (1 - _E**2) * tau**2) / ((1 - _E**2) * root * np.hypot(1, guess))
        tau = tau + (tangent - guess) * slope
    return tau


def _series(
    xi: np.ndarray, eta: np.ndarray, terms: tuple[float, ...], sign: int
) -> tuple[np.ndarray, np.ndarray]:
    """Krüger's series: eta (east) and xi (north) on the other side; sign 1 forth, -1 back."""
    north, east = xi, eta
    for j, term in enumerate(terms):
        angle, height = 2 * (j + 1) * xi, 2 * (j + 1) * eta
        north = north + sign * term * np.sin(angle) * np.cosh(height)
        east = east + sign * term * np.cos(angle) * np.sinh(height)
    return east, north
