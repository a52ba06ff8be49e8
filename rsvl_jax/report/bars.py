"""Bars: a histogram in SVG, and rows of counts in HTML."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from rsvl_jax.report.charts import short
from rsvl_jax.report.markup import Safe, tag

_WIDTH, _HEIGHT = 300, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 8, 20
_BINS = 30
_TAIL = 99.5  # percentile: what is beyond is counted in the last bar

CSS = """
svg .bar { fill: var(--model); }
.rows { width: 100%; font-size: .85rem; }
.rows tr { border: 0; }
.rows th { width: 45%; padding: .12rem .8rem .12rem 0; color: var(--ink);
  overflow-wrap: anywhere; line-height: 1.25; }
.rows td { padding: .12rem 0; vertical-align: middle; }
.rows td.number { width: 5rem; text-align: right; color: var(--soft); padding-left: .6rem; }
.rows i { display: block; height: .7rem; background: var(--model); opacity: .75;
  print-color-adjust: exact; }
"""


def histogram(counts: Mapping[int, int], *, label: str, unit: str) -> Safe:
    """Bars over whole numbers; few of them stand alone, many are put into bins.

    label: for people who do not see it. unit: what the numbers are.
    """
    values = np.array(sorted(counts))
    weights = np.array([counts[value] for value in values.tolist()], np.float64)
    edges, heights, over = _binned(values, weights)
    ticks = MaxNLocator(3, integer=True).tick_values(0, float(heights.max()))
    span = float(edges[-1] - edges[0])

    def x(value: float) -> float:
        return _LEFT + (value - edges[0]) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / float(ticks[-1]) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_grid(tick, y(tick)) for tick in map(float, ticks)]
    for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
        gap = 0.5 if high - low < span else 0
        box = {"x": f"{x(low) + gap:.1f}", "y": f"{y(height):.1f}"}
        size = {"width": f"{x(high) - x(low) - 2 * gap:.1f}", "height": f"{y(0) - y(height):.1f}"}
        parts.append(tag("rect", **box, **size, class_="bar"))
    parts += _numbers(edges, x, unit, over)
    frame = f"0 0 {_WIDTH} {_HEIGHT}"
    return tag("svg", parts, viewBox=frame, role="img", aria_label=label)


def _binned(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Edges [n + 1], heights [n], and whether the last bar holds all that is beyond."""
    place = np.cumsum(weights) / weights.sum() * 100
    top = int(values[np.searchsorted(place, _TAIL)])
    low = int(values[0])
    step = max(1, -(-(top - low + 1) // _BINS))
    count = -(-(top - low + 1) // step)
    edges = low - 0.5 + step * np.arange(count + 1)
    clipped = np.minimum(values, edges[-1] - 0.5)
    heights = np.histogram(clipped, bins=edges, weights=weights)[0]
    return edges, heights, bool(values[-1] > edges[-1])


def _grid(tick: float, y: float) -> Safe:
    line = tag("line", x1=_LEFT, y1=f"{y:.1f}", x2=_WIDTH - _RIGHT, y2=f"{y:.1f}", class_="grid")
    return tag(
        "g", line, tag("text", short(tick), x=_LEFT - 5, y=f"{y:.1f}", dy=4, text_anchor="end")
    )


def _numbers(edges: np.ndarray, x, unit: str, over: bool) -> list[Safe]:
    """The scale below the bars."""
    low, high = edges[0] + 0.5, edges[-1] - 0.5
    ticks = [t for t in MaxNLocator(4, integer=True).tick_values(low, high) if low <= t <= high]
    found = []
    for tick in ticks or [low]:
        last = tick == (ticks or [low])[-1]
        words = f"{short(tick)}{'+' if last and over else ''} {unit}" if last else short(tick)
        place = min(max(x(tick), _LEFT), _WIDTH - _RIGHT)
        anchor = "end" if last and place > _WIDTH * 0.7 else "middle"
        if anchor == "end":
            place = _WIDTH - _RIGHT
        found.append(tag("text", words, x=f"{place:.1f}", y=_HEIGHT - 5, text_anchor=anchor))
    return found


def rows(counts: Sequence[tuple[str, int]]) -> Safe:
    """A row with a bar for each name."""
    most = max((count for _, count in counts), default=1)
    body = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", tag("i", style=f"width:{100 * count / most:.1f}%")),
            tag("td", f"{count:,}", class_="number"),
        )
        for name, count in counts
    ]
    return tag("table", tag("tbody", body), class_="rows")
