"""Coasts and borders of a region as lines of longitude and latitude (Natural Earth, 1:10 million).

The borders are those of one of Natural Earth's points of view: for finding one's way, no more.
"""

import functools

import cv2
import numpy as np
import shapefile

from rsvl_jax.datasets.earth_tiles import countries
from rsvl_jax.datasets.earth_tiles.rasters import data_file
from rsvl_jax.rasters.footprints import Box

_TOO_COARSE = 0.7  # degrees: a map of less would show lines at wrong places
_FINE = 1000  # what is thinner than the region's width over this is not drawn


def outlines(region: Box) -> list[np.ndarray]:
    """Lines [n, 2] that reach into W, S, E, N; longitudes go with W, E may be above 180.

    Points are dropped where a line stays straight at the size of the region; a region that is too
    small for such coarse lines has none.
    """
    west, south, east, north = region
    if east - west < _TOO_COARSE:
        return []
    fine = (east - west) / _FINE
    found = []
    for ring in _rings():
        (left, low), (right, high) = ring.min(axis=0), ring.max(axis=0)
        if high < south or low > north or max(right - left, high - low) < 2 * fine:
            continue
        for shift in (-360.0, 0.0, 360.0):
            if left + shift <= east and right + shift >= west:
                found += _inside(ring + (shift, 0.0), region, fine)
    return found


def _inside(ring: np.ndarray, region: Box, fine: float) -> list[np.ndarray]:
    """The stretches of a ring that touch a region, simplified."""
    west, south, east, north = region
    x, y = ring.T
    code = (x < west) + 2 * (x > east) + 4 * (y < south) + 8 * (y > north)
    seen = (code[1:] & code[:-1]) == 0  # a line between two points beyond one side is not seen
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]])))
    lines = []
    for start, stop in edges.reshape(-1, 2):
        # OpenCV takes float32: degrees from the corner keep its digits.
        part = (ring[start : stop + 1] - (west, south)).astype(np.float32)
        kept = cv2.approxPolyDP(part[:, None], fine, closed=False)[:, 0]
        lines.append(kept.astype(float) + (west, south))
    return lines


@functools.cache
def _rings() -> list[np.ndarray]:
    """Every ring of every country, float64 [n, 2]."""
    package = countries.PACKAGE.replace("_", "-")
    path = data_file(countries.PACKAGE, countries.FILENAME, package)
    with shapefile.Reader(str(path), encoding="utf-8") as reader:
        shapes = reader.shapes()
    return [
        ring
        for shape in shapes
        for ring in np.split(np.array(shape.points), list(shape.parts)[1:])
        if len(ring) > 1
    ]
