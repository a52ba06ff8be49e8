"""Coordinates as they are stored: a centre in range, and a box that runs west to east."""

import math

from rsvl_jax.data.transforms import check_location
from rsvl_jax.datasets.image_text.reader import Box, Drop, Row
from rsvl_jax.errors import UserError

NOWHERE = (math.nan, math.nan)
NO_BOX: Box = (math.nan, math.nan, math.nan, math.nan)


def place(row: Row) -> tuple[float, float, Box]:
    """lon and lat of the centre and the box W, S, E, N in degrees, NaN for what the row lacks.

    E is beyond 180 where the box crosses the date line. Raises Drop for what is not on the Earth.
    """
    box = NO_BOX if row.box is None else _box(row.box)
    if row.lon is None and row.lat is None:
        return (*NOWHERE, box) if row.box is None else (*_centre(box), box)
    if row.lon is None or row.lat is None:
        raise Drop("coordinates are incomplete", f"lon={row.lon}, lat={row.lat}")
    _check(row.lon, row.lat)
    return row.lon, row.lat, box


def _box(given: Box) -> Box:
    west, south, east, north = (float(side) for side in given)
    if east > 180:  # already written beyond the date line, or in 0 ... 360
        west, east = (west, east) if west <= 180 else (west - 360, east - 360)
    for lon, lat in ((west, south), (east - 360 if east > 180 else east, north)):
        _check(lon, lat)
    if east < west:
        east += 360
    # Nothing that a camera sees spans half the Earth: such a box is written the wrong way round.
    if south > north or east - west > 180:
        raise Drop("box is reversed", f"W, S, E, N = {tuple(given)}")
    return west, south, east, north


def _centre(box: Box) -> tuple[float, float]:
    west, south, east, north = box
    return ((west + east) / 2 + 180) % 360 - 180, (south + north) / 2


def _check(lon: float, lat: float) -> None:
    try:
        check_location(lon=lon, lat=lat)
    except UserError as error:
        raise Drop("coordinates are out of range", str(error)) from error
