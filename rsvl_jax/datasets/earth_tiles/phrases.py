"""Grounded phrases: things that can be pointed at, each with its box in pixels of the tile."""

from collections.abc import Iterator

import cv2
import numpy as np

from rsvl_jax.datasets.earth_tiles.captions import LAKE_PIXELS, components, noun, where
from rsvl_jax.datasets.earth_tiles.classes import Kind
from rsvl_jax.datasets.earth_tiles.scene import Scene

CITY_POPULATION = 300_000
MOST_CITIES, MOST_PARTS = 3, 2
_COVER_PIXELS, _SEA_PIXELS, _SHORE_PIXELS, _ISLAND_PIXELS = 80, 80, 24, 8
_CITY_REACH = 2  # pixels around a city's coordinates: 15 km at the equator

Box = tuple[int, int, int, int]


def phrases(scene: Scene) -> tuple[list[str], np.ndarray]:
    """Different phrases about a scene and their boxes float32 [M, 4]: xmin, ymin, xmax, ymax.

    Pixels, 0 <= min < max <= the side of the tile; the maxima lie one past the last pixel. Boxes
    are tight around connected parts of the rasters; those of cities are 5 x 5 pixels or the
    built-up land, cut at the edge of the tile.
    """
    found: dict[str, Box] = {}
    for name, boxes in _things(scene):
        for box in boxes:
            several = len(boxes) > 1
            found.setdefault(f"{name}{_at(box, scene.size)}" if several else name, box)
    return list(found), np.array(list(found.values()), np.float32).reshape(-1, 4)


def _things(scene: Scene) -> Iterator[tuple[str, list[Box]]]:
    yield from _cities(scene)
    yield "a lake", _boxes(scene.lake > 0, LAKE_PIXELS)
    yield "the sea", _boxes(scene.sea, _SEA_PIXELS)[:1]
    yield "the coast", _boxes(_shore(scene), _SHORE_PIXELS)[:1]
    yield "an island", _islands(scene)
    for kind in Kind:
        if kind != Kind.WATER:
            mask = scene.cover == kind
            if mask.sum() >= _COVER_PIXELS:
                yield noun(scene, kind), _boxes(mask, _COVER_PIXELS)


def _cities(scene: Scene) -> Iterator[tuple[str, list[Box]]]:
    """The largest cities; of those that run into one another only the largest."""
    taken: list[Box] = []
    for city, x, y in scene.cities:
        if city.population < CITY_POPULATION or len(taken) == MOST_CITIES:
            return
        box = _city_box(scene, x, y)
        if not any(_overlap(box, other) for other in taken):
            taken.append(box)
            yield f"the city of {city.name}", [box]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _boxes(mask: np.ndarray, pixels: int) -> list[Box]:
    return [part[:4] for part in components(mask, pixels)[:MOST_PARTS]]


def _shore(scene: Scene) -> np.ndarray:
    """Land pixels that touch the sea."""
    beside = cv2.dilate(scene.sea.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return beside & (scene.landcover > 0)


def _islands(scene: Scene) -> list[Box]:
    """Land that the sea closes in on all sides within the tile."""
    size = len(scene.sea)
    dry = ~scene.sea
    parts = components(dry, _ISLAND_PIXELS)
    inside = [p[:4] for p in parts if min(p[:2]) > 0 and max(p[2:4]) < size]
    return inside[:MOST_PARTS]


def _city_box(scene: Scene, x: float, y: float) -> Box:
    """Around a city's coordinates, grown over the built-up land that reaches into that square."""
    size = len(scene.landcover)
    left, top = max(int(x) - _CITY_REACH, 0), max(int(y) - _CITY_REACH, 0)
    right, bottom = min(int(x) + _CITY_REACH + 1, size), min(int(y) + _CITY_REACH + 1, size)
    _, number = cv2.connectedComponents((scene.landcover == 13).astype(np.uint8), connectivity=8)
    here = np.unique(number[top:bottom, left:right])
    ys, xs = np.nonzero(np.isin(number, here[here > 0]))
    if len(xs):
        left, top = min(left, int(xs.min())), min(top, int(ys.min()))
        right, bottom = max(right, int(xs.max()) + 1), max(bottom, int(ys.max()) + 1)
    return left, top, right, bottom


def _at(box: Box, size: int) -> str:
    x, y = ((box[axis] + box[axis + 2] - 1) / 2 for axis in (0, 1))
    way = where(np.array([x]), np.array([y]), size)
    return f" in the {way}" if way else " in the middle"
