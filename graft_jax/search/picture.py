"""A picture of a density map: a panel a query, with coasts, legend and degrees."""

import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from graft_jax.search.density import Grid
from graft_jax.search.outlines import outlines
from graft_jax.search.settings import Search
from rsvl_jax.storage import replace_file

COLOURS = "YlGnBu"  # darker is denser, as in GRAFT's Figure 4
GREY = "#d5d3ce"
_INK = "#33373d"
_MOST = 8  # panels
_SIDE = 5.2  # inches of a panel's longer side
_SIDE_PIXELS = 1200
_STEEPEST = 80.0  # degrees of latitude whose stretch is still drawn


def write(path: str, bands: np.ndarray, cells: Grid, settings: Search) -> None:
    """Draws a band [rows, columns] for each query, NaN where nothing is known, as a PNG."""
    shown = min(len(bands), _MOST)
    across = math.ceil(math.sqrt(shown)) if shown > 1 else 1
    west, south, east, north = cells.box
    stretch = latitude_stretch(south, north)
    ratio = (north - south) * stretch / (east - west)
    width = _SIDE * min(1.0, 1 / ratio)
    down = -(-shown // across)
    size = across * (width + 0.5), down * (width * ratio + 0.95) + 0.3
    lines = outlines(cells.box)
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08))
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for ax, band, query in zip(axes, bands, settings.queries, strict=False):
            _panel(ax, thinned(band, _SIDE_PIXELS), query, cells, stretch, settings)
            for line in lines:
                ax.plot(*line.T, color=_INK, linewidth=0.5)
            ax.set(xlim=(west, east), ylim=(south, north))
        for ax in axes[shown:]:
            ax.axis("off")
        figure.supxlabel(_caption(cells, shown, settings), color="#555555", size=8, ha="left", x=0)
        with replace_file(path) as file:
            figure.savefig(file, format="png", dpi=130)


def _panel(ax, band: np.ndarray, query: str, cells: Grid, stretch: float, settings: Search) -> None:
    """One query; cosines have a scale of their own, since those of two texts do not compare."""
    west, south, east, north = cells.box
    low, high = limits(band) if settings.threshold is None else (0.0, 1.0)
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=GREY)
    drawn = ax.imshow(
        band,
        cmap=colours,
        vmin=low,
        vmax=high,
        extent=(west, east, south, north),
        aspect=stretch,
        interpolation="nearest",
    )
    ax.set_title(query, loc="left", size=10)
    ax.xaxis.set_major_formatter(lambda value, _: degrees(value, "EW"))
    ax.yaxis.set_major_formatter(lambda value, _: degrees(value, "NS"))
    ax.locator_params(nbins=5)
    ax.tick_params(length=2, colors="#555555")
    for spine in ax.spines.values():
        spine.set_edgecolor("#999999")
    what = "mean cosine"
    if settings.threshold is not None:
        what = f"share of tiles with cosine of {settings.threshold:g} or more"
    bar = ax.figure.colorbar(
        drawn, ax=ax, orientation="horizontal", shrink=0.6, aspect=30, pad=0.02, anchor=(0, 1)
    )
    bar.set_label(what, loc="left")
    bar.outline.set_visible(False)


def latitude_stretch(south: float, north: float) -> float:
    """How much longer a degree of latitude is than one of longitude, in the middle of a region.

    Near all of the Earth is shown as it is, so that it is twice as wide as high.
    """
    if north - south > 90:
        return 1.0
    middle = np.clip((south + north) / 2, -_STEEPEST, _STEEPEST)
    return float(1 / np.cos(np.radians(middle)))


def limits(band: np.ndarray) -> tuple[float, float]:
    """The 1st and 99th percentile of what is known; a scale of no length is widened."""
    known = band[np.isfinite(band)]
    low, high = np.percentile(known, (1, 99)) if len(known) else (0.0, 0.0)
    return float(low), float(max(high, low + 1e-6))


def thinned(band: np.ndarray, side: int) -> np.ndarray:
    """Every n-th row and column, so that none has more than `side`."""
    step = -(-max(band.shape) // side)
    return band[step // 2 :: step, step // 2 :: step] if step > 1 else band


def degrees(value: float, letters: str) -> str:
    """A longitude ("EW") or latitude ("NS") for people: "12.5° W"; longitudes beyond 180 turn."""
    if letters == "EW":
        value = (value + 180) % 360 - 180
    value = round(float(value), 6)
    letter = letters[value < 0]
    return f"{abs(value):g}°" + (f" {letter}" if value and abs(value) != 180 else "")


def _caption(cells: Grid, shown: int, settings: Search) -> str:
    parts = [f"cells of {cells.cell:g}°", "grey: no tile", "coasts and borders: Natural Earth"]
    if shown < len(settings.queries):
        parts.append(f"first {shown} of {len(settings.queries)} queries")
    return " · ".join(parts)
