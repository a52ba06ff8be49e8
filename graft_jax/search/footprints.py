"""The ground that tiles cover: polygons of longitude and latitude as well-known binary."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyproj

_POLYGON, _MULTIPOLYGON = 3, 6
_LITTLE_ENDIAN = 1
Ring = Sequence[tuple[float, float]]


def corners(crs: Any, transform: Any, row: int, column: int, size: int) -> np.ndarray:
    """Longitude and latitude of a tile's corners, counter-clockwise from the upper left, [4, 2].

    Longitudes follow one another: a tile across the antimeridian has some beyond 180.
    """
    x = np.array([column, column, column + size, column + size], float)
    y = np.array([row, row + size, row + size, row], float)
    across, down = transform @ (x, y)
    to_lonlat = pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(crs.to_wkt()), 4326, always_xy=True)
    lon, lat = to_lonlat.transform(across, down)
    lon = (np.asarray(lon) + 180) % 360 - 180
    if np.ptp(lon) > 180:
        lon = np.where(lon < 0, lon + 360, lon)
    return np.stack([lon, lat], axis=1)


def well_known_binary(ring: np.ndarray) -> bytes:
    """A polygon; two of them where it crosses the antimeridian, as GeoJSON asks."""
    points = [(float(x), float(y)) for x, y in ring]
    if max(x for x, _ in points) <= 180:
        return _polygon(points)
    west = _cut(points, lambda x: 180 - x)
    east = [(x - 360, y) for x, y in _cut(points, lambda x: x - 180)]
    head = struct.pack("<BII", _LITTLE_ENDIAN, _MULTIPOLYGON, 2)
    return head + _polygon(west) + _polygon(east)


def box(ring: np.ndarray) -> tuple[float, float, float, float]:
    """W, S, E, N; E is less than W where it crosses the antimeridian."""
    (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
    return float(west), float(south), float(east - 360 if east > 180 else east), float(north)


def _polygon(ring: Ring) -> bytes:
    closed = [*ring, ring[0]]
    head = struct.pack("<BIII", _LITTLE_ENDIAN, _POLYGON, 1, len(closed))
    return head + np.array(closed, "<f8").tobytes()


def _cut(ring: Ring, inside: Callable[[float], float]) -> list[tuple[float, float]]:
    """The part of a convex ring where `inside` of x is not negative (Sutherland and Hodgman)."""
    found = []
    for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True):
        before, after = inside(x0), inside(x1)
        if before >= 0:
            found.append((x0, y0))
        if before * after < 0:
            share = before / (before - after)
            found.append((x0 + share * (x1 - x0), y0 + share * (y1 - y0)))
    return found
