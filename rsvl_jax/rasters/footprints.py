"""The ground that tiles cover: rings of longitude and latitude, boxes, well-known binary."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyproj

_POLYGON, _MULTIPOLYGON = 3, 6
_LITTLE_ENDIAN = 1
_STEPS = 4  # of a side: straight lines of a projection bend in degrees, and 90 at once are clear
Ring = Sequence[tuple[float, float]]
Box = tuple[float, float, float, float]  # W, S, E, N, degrees


class Ground:
    """From pixels of a grid to longitude and latitude."""

    def __init__(self, crs: Any, transform: Any):
        """crs, transform: the grid's, as rasterio has them."""
        known = pyproj.CRS.from_wkt(crs.to_wkt())
        self._transform, self._straight = transform, known.is_geographic
        self._to_lonlat = pyproj.Transformer.from_crs(known, 4326, always_xy=True)

    def ring(self, row: int, column: int, size: int) -> np.ndarray:
        """The outline of a square of pixels, counter-clockwise, degrees, float64 [n, 2].

        Longitudes follow one another from one in [-180, 180): a square across the antimeridian
        has some beyond 180, and one that holds a pole is a band around the whole Earth. Infinite
        values where the grid leads off the Earth.
        """
        share = np.arange(_STEPS) / _STEPS
        zero, one = np.zeros(_STEPS), np.ones(_STEPS)
        x = column + size * np.concatenate([zero, share, one, 1 - share])
        y = row + size * np.concatenate([share, one, 1 - share, zero])
        lon, lat = map(np.asarray, self._to_lonlat.transform(*(self._transform @ (x, y))))
        if not np.isfinite([lon, lat]).all():
            return np.full((4, 2), np.inf)
        lon, around = _unwrapped(lon)
        if around:
            return _cap(lat)
        found = np.stack([lon, lat], axis=1)[:: _STEPS if self._straight else 1]
        return found if _area(found) > 0 else found[::-1]

    def point(self, row: float, column: float) -> tuple[float, float]:
        """Longitude in [-180, 180) and latitude of a place in pixels."""
        lon, lat = self._to_lonlat.transform(*(self._transform @ (column, row)))
        return (lon + 180) % 360 - 180, lat


def rectangle(west: float, south: float, east: float, north: float) -> np.ndarray:
    """The ring of a box whose east exceeds 180 across the antimeridian, [4, 2]."""
    return np.array([(west, north), (west, south), (east, south), (east, north)], float)


def box(ring: np.ndarray) -> Box:
    """W, S, E, N; E is less than W where it crosses the antimeridian."""
    (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
    return float(west), float(south), float(east - 360 if east > 180 else east), float(north)


def well_known_binary(ring: np.ndarray) -> bytes:
    """A polygon; two of them where it crosses the antimeridian, as GeoJSON asks."""
    parts = split(ring)
    if len(parts) == 1:
        return _polygon(parts[0])
    head = struct.pack("<BII", _LITTLE_ENDIAN, _MULTIPOLYGON, len(parts))
    return head + b"".join(map(_polygon, parts))


def rings(binary: bytes) -> list[list[list[float]]]:
    """The rings of what `well_known_binary` wrote, closed, as GeoJSON has them."""
    kind, count = struct.unpack_from("<II", binary, 1)
    found, at = [], 9 if kind == _MULTIPOLYGON else 0
    for _ in range(count):
        points = struct.unpack_from("<I", binary, at + 9)[0]
        values = np.frombuffer(binary, "<f8", 2 * points, at + 13)
        found.append(values.reshape(-1, 2).tolist())
        at += 13 + 16 * points
    return found


def split(ring: np.ndarray) -> list[list[tuple[float, float]]]:
    """The parts of a ring on either side of the antimeridian, all longitudes in [-180, 180]."""
    points = [(float(x), float(y)) for x, y in ring]
    if max(x for x, _ in points) <= 180:
        return [points]
    west = _cut(points, lambda x: 180 - x)
    return [west, [(x - 360, y) for x, y in _cut(points, lambda x: x - 180)]]


def _unwrapped(lon: np.ndarray) -> tuple[np.ndarray, bool]:
    """Longitudes of a closed ring in steps below 180, the least in [-180, 180); or it goes around.

    Grids count longitude from where they like; only the steps from point to point are trusted.
    """
    steps = (np.diff(np.append(lon, lon[0])) + 180) % 360 - 180
    found = (lon[0] + 180) % 360 - 180 + np.concatenate([[0.0], np.cumsum(steps[:-1])])
    # Rounding leaves -180 - 1e-14 where -180 is meant, which is not 180 - 1e-14.
    turns = np.floor((found.min() + 180 + 1e-9) / 360)
    return np.maximum(found - 360 * turns, -180.0), bool(abs(steps.sum()) > 180)


def _cap(lat: np.ndarray) -> np.ndarray:
    """All longitudes from the farthest point of a ring around a pole to that pole."""
    if lat.mean() > 0:
        return rectangle(-180.0, float(lat.min()), 180.0, 90.0)
    return rectangle(-180.0, -90.0, 180.0, float(lat.max()))


def _area(ring: np.ndarray) -> float:
    """Twice the area inside, in square degrees; positive if counter-clockwise."""
    x, y = ring.T - ring[0][:, None]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _polygon(ring: Ring) -> bytes:
    closed = [*ring, ring[0]]
    head = struct.pack("<BIII", _LITTLE_ENDIAN, _POLYGON, 1, len(closed))
    return head + np.array(closed, "<f8").tobytes()


def _cut(ring: Ring, inside: Callable[[float], float]) -> list[tuple[float, float]]:
    """The part of a ring where `inside` of x is not negative (Sutherland and Hodgman)."""
    found = []
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        before, after = inside(x0), inside(x1)
        if before >= 0:
            found.append((x0, y0))
        if before * after < 0:
            share = before / (before - after)
            found.append((x0 + share * (x1 - x0), y0 + share * (y1 - y0)))
    return found
