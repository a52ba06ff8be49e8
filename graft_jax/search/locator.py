"""The map of a gallery, as SVG: similarity of the region, coasts, and where the hits lie."""

import base64
from collections.abc import Iterable, Sequence

import cv2
import matplotlib
import numpy as np

from graft_jax.search import density
from graft_jax.search.outlines import outlines
from graft_jax.search.picture import COLOURS, GREY, degrees, latitude_stretch, limits
from graft_jax.search.ranking import Found, Hit
from rsvl_jax.rasters import footprints
from rsvl_jax.rasters.footprints import Box
from rsvl_jax.report.markup import Child, Safe, number, tag

_MOST = 1000.0, 560.0  # width and height of the drawing
_SMALL = 300.0, 300.0
_LOST = 20.0  # degrees: a map of less comes with a second one that shows where on Earth it is
_HIGH = 30.0  # degrees of latitude that it shows
_COAST, _FAR_COAST = "coast", "far-coast"
_CELLS = 240  # across the region, about
_MARGIN = 0.06  # of the region's longer side
_RADIUS = 7.5
_SEEN = 4.0  # pixels: smaller footprints are not drawn
_RED = "#c0391b"


class _Frame:
    """From degrees to the drawing."""

    def __init__(self, region: Box, most: tuple[float, float] = _MOST):
        west, south, east, north = region
        self.box = region
        stretch = latitude_stretch(south, north)
        ratio = (north - south) * stretch / (east - west)
        self.width = min(most[0], most[1] / ratio)
        self.height = self.width * ratio
        self._scale = np.array([self.width / (east - west), -self.height / (north - south)])

    def points(self, lonlat: Iterable[Sequence[float]], turn: bool = True) -> np.ndarray:
        """Pixels [n, 2]; a ring is turned about the Earth until it starts in the frame."""
        found = np.array(lonlat, float)
        if turn:
            middle = (found[:, 0].min() + found[:, 0].max()) / 2
            found[:, 0] += (middle - self.box[0]) % 360 - (middle - self.box[0])
        return (found - (self.box[0], self.box[3])) * self._scale


class Locator:
    """The maps of one search: all show the same ground, so its coasts are there once."""

    def __init__(self, found: Found):
        self._found = found
        self._frame = _Frame(_around(density.region(found.places)))
        west, south, east, north = self._frame.box
        self._overview = None
        if east - west < _LOST:
            low = float(np.clip((south + north - _HIGH) / 2, -90, 90 - _HIGH))
            middle, wide = (west + east) / 2, _HIGH * latitude_stretch(low, low + _HIGH)
            around = middle - wide / 2, low, middle + wide / 2, low + _HIGH
            self._overview = _Frame(around, _SMALL)

    def definitions(self) -> Safe:
        """What the maps refer to; once in the page, before them."""
        paths = [_coasts(self._frame, _COAST)]
        if self._overview is not None:
            paths.append(_coasts(self._overview, _FAR_COAST))
        return tag("svg", tag("defs", paths), width=0, height=0, style="position:absolute")

    def figure(self, query: int) -> Safe:
        """The map of one query with its legend."""
        found, frame = self._found, self._frame
        places, hits = found.places, found.hits[query]
        cells = density.grid(places, (frame.box[2] - frame.box[0]) / _CELLS)
        band = density.means(found.scores[:, [query]], places, cells)[0][0]
        low, high = limits(band)
        parts = [
            _heat(frame, band, cells.box, low, high),
            _lines(_COAST),
            _graticule(frame),
            [_marker(frame, hit, f"#q{query}-{hit.rank}") for hit in reversed(hits)],
        ]
        words = f"Map of the tiles; numbers mark the {len(hits)} nearest to {found.queries[query]}"
        maps = [_drawing(frame, parts, words)]
        if self._overview is not None:
            maps.append(self._where(self._overview))
        return tag("figure", tag("div", maps), _legend(low, high), class_="locator")

    def _where(self, overview: _Frame) -> Safe:
        """Where on Earth the region is."""
        west, south, east, north = self._frame.box
        corners = overview.points([(west, north), (east, south)], turn=False)
        middle, half = corners.mean(axis=0), np.maximum(np.ptp(corners, axis=0) / 2, 3)
        (x, y), (width, height) = middle - half, 2 * half
        box = {"x": x, "y": y, "width": width, "height": height}
        edges = {name: f"{value:.1f}" for name, value in box.items()}
        mark = tag("rect", **edges, fill="none", stroke=_RED, stroke_width=2)
        return _drawing(overview, [_lines(_FAR_COAST), mark], "Where on Earth that is")


def _drawing(frame: _Frame, parts: Iterable[Child], words: str) -> Safe:
    return tag(
        "svg",
        tag("rect", width="100%", height="100%", fill=GREY),
        parts,
        viewBox=f"0 0 {frame.width:.0f} {frame.height:.0f}",
        role="img",
        aria_label=words,
        style=f"width:{frame.width:.0f}px",
    )


def _lines(name: str) -> list[Safe]:
    """Coasts with a light edge, so that they are seen on dark ground, too."""
    light = tag("use", href=f"#{name}", stroke="#fff", stroke_width=2, opacity=0.45)
    return [light, tag("use", href=f"#{name}", stroke="#2b2f35", stroke_width=0.7)]


def _around(region: Box) -> Box:
    """A region with a margin that shows where it is; the whole Earth stays as it is."""
    west, south, east, north = region
    margin = _MARGIN * max(east - west, north - south)
    south, north = max(south - margin, -90.0), min(north + margin, 90.0)
    if east - west + 2 * margin >= 360:
        return west, south, west + 360, north
    # A map much longer than wide, or wider than long, is hard to read.
    wide = max(margin, (north - south - (east - west)) / 4)
    return west - wide, south, east + wide, north


def _heat(frame: _Frame, band: np.ndarray, box: Box, low: float, high: float) -> Safe:
    """The similarity of the region as a picture; nothing where there is no tile."""
    share = np.clip((np.nan_to_num(band) - low) / (high - low), 0, 1)
    rgba = (255 * matplotlib.colormaps[COLOURS](share)).astype(np.uint8)
    rgba[..., 3] = np.where(np.isfinite(band), 255, 0)
    encoded = cv2.imencode(".png", np.ascontiguousarray(rgba[..., [2, 1, 0, 3]]))[1].tobytes()
    (x, y), (right, bottom) = frame.points([(box[0], box[3]), (box[2], box[1])], turn=False)
    return tag(
        "image",
        href="data:image/png;base64," + base64.b64encode(encoded).decode("ascii"),
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        width=f"{right - x:.1f}",
        height=f"{bottom - y:.1f}",
        preserveAspectRatio="none",
    )


def _coasts(frame: _Frame, name: str) -> Safe:
    lines = [frame.points(line, turn=False) for line in outlines(frame.box)]
    path = " ".join("M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in line) for line in lines)
    return tag("path", id=name, d=path, fill="none")


def _graticule(frame: _Frame) -> list[Safe]:
    """Lines of round longitude and latitude with their degrees at the left and lower edge."""
    west, south, east, north = frame.box
    step = density.round_number(max(east - west, north - south) / 6)
    parts = []
    for lon in np.arange(np.ceil(west / step) * step, east, step):
        x = frame.points([(lon, south)], turn=False)[0, 0]
        parts.append(_line(x, 0, x, frame.height))
        if 24 < x < frame.width - 24:
            parts.append(_words(x, frame.height - 5, degrees(lon, "EW"), "middle"))
    for lat in np.arange(np.ceil(south / step) * step, north, step):
        y = frame.points([(west, lat)], turn=False)[0, 1]
        parts.append(_line(0, y, frame.width, y))
        if 12 < y < frame.height - 24:
            parts.append(_words(4, y - 3, degrees(lat, "NS"), "start"))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float) -> Safe:
    ends = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return tag(
        "line",
        **{name: f"{value:.1f}" for name, value in ends.items()},
        stroke="#fff",
        stroke_width=0.6,
        opacity=0.6,
    )


def _words(x: float, y: float, text: str, anchor: str) -> Safe:
    halo = {"paint_order": "stroke", "stroke": "#fff", "stroke_width": 2.5, "stroke_opacity": 0.7}
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, **halo)


def _marker(frame: _Frame, hit: Hit, target: str) -> Safe:
    """The footprint of a hit, where it can be seen, and its rank; a click leads to the tile."""
    tile = hit.tile
    parts = []
    for ring in footprints.rings(tile["geometry"]):
        points = frame.points(ring)
        if np.ptp(points, axis=0).max() >= _SEEN:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(tag("polygon", points=path, fill="none", stroke=_RED, stroke_width=1.6))
    x, y = frame.points([(tile["lon"], tile["lat"])])[0]
    small = 10 if hit.rank < 100 else 7
    circle = tag(
        "circle",
        cx=f"{x:.1f}",
        cy=f"{y:.1f}",
        r=_RADIUS,
        fill=_RED,
        stroke="#fff",
    )
    text = tag(
        "text", f"{hit.rank}", x=f"{x:.1f}", y=f"{y + 3.5:.1f}", style=f"font-size:{small}px"
    )
    return tag(
        "a",
        tag("title", f"{hit.rank}: {hit.score:.3f}"),
        parts,
        circle,
        text,
        href=target,
        class_="hit",
    )


def _legend(low: float, high: float) -> Safe:
    stops = (
        matplotlib.colors.to_hex(matplotlib.colormaps[COLOURS](s)) for s in np.linspace(0, 1, 9)
    )
    return tag(
        "div",
        f"mean cosine of the tiles of a place: {number(low)}",
        tag("i", style=f"background:linear-gradient(90deg,{','.join(stops)})"),
        f"{number(high)} · grey: no tile",
        class_="ramp",
    )
