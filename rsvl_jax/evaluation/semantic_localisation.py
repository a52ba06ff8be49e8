"""Semantic localisation (SeLo): a text is looked for in a large scene, window by window.

Protocol and indicators of Yuan et al., "Learning to evaluate performance of multimodal semantic
localization" (2022), as their released code has them: predict/generate_selo.py for the map and
evaluations/SLM.py for the indicators, whose constants are theirs.

    Rsu  up    how much of the weight lies in the annotated regions, beside their share of area
    Ras  down  how far the map's peaks are from the middles of the regions
    Rda  up    whether a region has one peak and not several, or none
    Rmi  up    their weighted mean
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

SCALES = (256, 512, 768)  # pixels, of windows
_BLUR = 251  # of the map's median filter, pixels
_BETA, _EPSILON = 0.707, 1e-7
_REACH, _SOFT, _STEEP = 1.5, 5, 3.0
_BOX, _APART, _LEAST = 50, 1000, 0.5  # of peaks: smoothing, distance, height
_ETA = 0.5
_WEIGHTS = {"rsu": 0.4, "ras": 0.35, "rda": 0.25}

Polygon = np.ndarray  # [K, 2], columns and rows


@dataclass(frozen=True)
class Indicators:
    """Of one text in one scene; see the module."""

    rsu: float
    rda: float
    ras: float

    @property
    def rmi(self) -> float:
        """The weighted mean."""
        parts = {"rsu": self.rsu, "ras": 1 - self.ras, "rda": self.rda}
        return sum(weight * parts[name] for name, weight in _WEIGHTS.items())


def windows(height: int, width: int, scales: Sequence[int] = SCALES) -> list[tuple[int, int, int]]:
    """(row, column, side) of all windows: tiles of each scale, and the same half a side on.

    Windows that would reach beyond the scene are moved back into it; scales larger than the scene
    are left out, unless all are: then it is one window of the shorter side.
    """
    fitting = [scale for scale in scales if scale <= min(height, width)]
    fitting = fitting or [min(height, width)]
    found: dict[tuple[int, int, int], None] = {}
    for side in fitting:
        for shift in (0, side - side // 2):
            for row in _starts(height, side, shift):
                for column in _starts(width, side, shift):
                    found[row, column, side] = None
    return list(found)


def _starts(length: int, side: int, shift: int) -> Iterator[int]:
    for start in range(shift, length, side):
        yield min(start, length - side)


def probability_map(
    shape: tuple[int, int], places: Sequence[tuple[int, int, int]], cosines: np.ndarray
) -> np.ndarray:
    """Mean of the windows over each pixel, stretched to [0, 1], median-filtered: float64 [H,W].

    places: as `windows` gives them; cosines [n]. Values are of 256 steps, as those of an image.
    """
    heat, count = np.zeros(shape), np.zeros(shape)
    for (row, column, side), cosine in zip(places, cosines.tolist(), strict=True):
        heat[row : row + side, column : column + side] += cosine
        count[row : row + side, column : column + side] += 1
    heat /= np.maximum(count, 1)
    heat -= heat.min()
    steps = (255 * heat / max(heat.max(), 1e-12)).astype(np.uint8)
    return cv2.medianBlur(steps, _BLUR) / 255.0


def indicators(prob: np.ndarray, regions: Sequence[Polygon]) -> Indicators:
    """prob [H,W] in [0, 1]; regions: annotated polygons, at least one."""
    mask = np.zeros(prob.shape)
    cv2.fillPoly(mask, [np.asarray(region).astype(np.int32) for region in regions], 1.0)
    circles = [_circle(region) for region in regions]
    peaks = _peaks(prob)
    return Indicators(_rsu(prob, mask), _rda(circles, peaks), _ras(circles, peaks))


def _rsu(prob: np.ndarray, mask: np.ndarray) -> float:
    inside, area = float((prob * mask).sum()), float(mask.sum())
    weight = inside / (float(prob.sum()) - inside + _EPSILON)
    room = (mask.size - area) / max(area, 1.0)
    return float(1 - np.exp(-_BETA * weight * room))


def _ras(circles: Sequence[tuple[int, int, int]], peaks: np.ndarray) -> float:
    if not len(peaks):
        return 1.0
    offsets = []
    for x, y, radius in circles:
        near = _near(peaks, x, y, radius)
        distances = np.linalg.norm(near - (x, y), axis=1)
        offsets.append(distances.mean() / radius if len(near) else 1.0)
    offset = float(np.mean(offsets))
    return float((np.exp(_STEEP * offset) - 1) / (np.exp(_STEEP) - 1))


def _rda(circles: Sequence[tuple[int, int, int]], peaks: np.ndarray) -> float:
    found = []
    for x, y, radius in circles:
        near = _near(peaks, x, y, radius)
        if len(near) <= 1:
            found.append(float(len(near)))
            continue
        spread = np.linalg.norm(near - near.mean(axis=0), axis=1).mean() / radius
        found.append(0.5 * (1 - spread) + np.exp(-_ETA * (len(near) + 2)))
    return float(np.mean(found))


def _near(peaks: np.ndarray, x: int, y: int, radius: int) -> np.ndarray:
    return peaks[np.linalg.norm(peaks - (x, y), axis=1) <= radius]


def _circle(region: Polygon) -> tuple[int, int, int]:
    """Middle of a polygon's corners and their mean distance from it, half as far again."""
    corners = np.asarray(region, np.float64)
    x, y = (int(value) for value in corners.mean(axis=0))
    radius = int(np.linalg.norm(corners - (x, y), axis=1).mean() * _REACH)
    return x, y, max(radius, 1)


def _peaks(prob: np.ndarray) -> np.ndarray:
    """Columns and rows of the highest places of the smoothed map, float64 [n,2]."""
    soft = (prob * 255).astype(np.uint8)
    for _ in range(_SOFT):
        soft = np.asarray(cv2.boxFilter(soft, -1, (_BOX, _BOX)), np.uint8)
    top = (ndimage.maximum_filter(soft, size=_APART) == soft) & (soft > 0)
    labels, count = ndimage.label(top, np.ones((3, 3), bool))
    middles = ndimage.center_of_mass(top, labels, range(1, count + 1))
    places = [(int(column), int(row)) for row, column in middles]
    high = [place for place in places if prob[place[1], place[0]] >= _LEAST]
    return np.array(high, np.float64).reshape(-1, 2)


def localise(
    image: np.ndarray,
    embed: Callable[[Iterator[np.ndarray]], np.ndarray],
    texts: np.ndarray,
    scales: Sequence[int] = SCALES,
) -> Iterator[np.ndarray]:
    """The map of each text over a scene.

    Args:
      image: uint8 [H,W,3].
      embed: images of any size -> unit vectors float32 [n,E]; called once.
      texts: unit vectors float32 [Q,E].
    """
    height, width = image.shape[:2]
    places = windows(height, width, scales)
    cut = (image[r : r + side, c : c + side] for r, c, side in places)
    cosines = np.asarray(embed(cut)) @ np.asarray(texts).T
    for column in cosines.T:
        yield probability_map((height, width), places, column)
