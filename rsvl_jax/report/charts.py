"""Charts that take the page's colours and reflow with it: line charts in SVG, dot rows in HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator

from rsvl_jax.report.files import Curve
from rsvl_jax.report.markup import Child, Safe, percent, tag

_WIDTH, _HEIGHT = 300, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 38, 8, 8, 20
_MAX_POINTS = 300
_USUAL = 90  # percentile: what is more than three times higher is an outlier
_NOISY = 20  # from as many points on, a running mean is worth drawing


@dataclass(frozen=True)
class Row:
    """A row of a dot chart.

    Attributes:
      label: what was scored.
      value: its score, in the chart's unit.
      interval: confidence interval of the score.
      model: whether it is the model of this run, which stands out.
    """

    label: str
    value: float
    interval: tuple[float, float] | None = None
    model: bool = False


def dots(rows: Sequence[Row], *, chance: float | None, plain: bool = False) -> Safe:
    """Rows of dots with whiskers on one scale from 0, and their numbers, as a table.

    chance: value of a random guess, a dashed line through all rows. plain: all rows alike, and
    no room for intervals.
    """
    highs = [row.interval[1] if row.interval else row.value for row in rows]
    ticks = _ticks(0.0, max([*highs, chance or 0.0, 1.0]), 4)
    end = ticks[-1]
    body = [_dot_row(row, chance, end) for row in rows]
    marks = [tag("i", short(tick), style=_left(tick, end)) for tick in ticks]
    foot = tag("tr", tag("td"), tag("td", marks), tag("td"), aria_hidden="true")
    return tag(
        "table",
        tag("tbody", body),
        tag("tfoot", foot),
        class_="dots plain" if plain else "dots",
        style=f"--step:{100 * (ticks[1] - ticks[0]) / end:.3f}%",
    )


def _dot_row(row: Row, chance: float | None, end: float) -> Safe:
    marks: list[Child] = []
    if chance is not None:
        marks.append(tag("i", class_="chance", style=_left(chance, end)))
    bounds: Child = ""
    if row.interval:
        low, high = row.interval
        width = 100 * (high - low) / end
        marks.append(tag("i", class_="bar", style=f"{_left(low, end)};width:{width:.2f}%"))
        bounds = f"{percent(low)}–{percent(high)}"
    marks.append(tag("i", class_="dot", style=_left(row.value, end)))
    return tag(
        "tr",
        tag("th", row.label, scope="row"),
        tag("td", marks, class_="track"),
        tag("td", tag("b", percent(row.value)), " ", tag("small", bounds), class_="number"),
        class_="model" if row.model else None,
    )


def _left(value: float, end: float) -> str:
    return f"left:{100 * value / end:.2f}%"


def _ticks(low: float, high: float, count: int) -> list[float]:
    ticks = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks]


def line(
    curve: Curve,
    *,
    label: str,
    start: float | None = None,
    from_zero: bool = False,
    smooth: bool = True,
) -> Safe:
    """A curve over steps; where it is noisy, the logged values thin and their running mean thick.

    label: for people who do not see it. start: value at initialisation, a dashed line. A lone
    outlier of a curve from zero leaves the frame at the top, so that the rest can be read.
    """
    low, high = _span(curve, from_zero)
    frame = _Frame(max(int(curve.steps[-1]), 1), _ticks(low, high, 3))
    return tag(
        "svg",
        frame.grid(),
        _start(frame, curve, start),
        _paths(frame, curve, smooth),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )


def together(curves: Sequence[Curve | None], *, label: str) -> Safe:
    """Running means of several curves in one frame; number i has the class "run run<i>"."""
    shown = [(index, _mean(curve)) for index, curve in enumerate(curves) if curve is not None]
    values = np.concatenate([curve.values for _, curve in shown])
    whole = Curve(np.array([max(int(curve.steps[-1]) for _, curve in shown)]), values)
    frame = _Frame(max(int(whole.steps[-1]), 1), _ticks(*_span(whole, False), 3))
    return tag(
        "svg",
        frame.grid(),
        [_polyline(frame, curve, f"run run{index}") for index, curve in shown],
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=label,
    )


def _span(curve: Curve, from_zero: bool) -> tuple[float, float]:
    low, high = float(curve.values.min()), float(curve.values.max())
    if from_zero:
        usual = float(np.percentile(curve.values, _USUAL))
        low, high = min(0.0, low), max(min(high, 3 * usual), 1e-9)
    if high - low < 1e-12:
        low, high = low - 0.5 * max(abs(low), 1e-6), high + 0.5 * max(abs(high), 1e-6)
    return low, high


@dataclass(frozen=True)
class _Frame:
    """The plot area of a line chart: steps 0 to `end`, values between the outer ticks `ys`."""

    end: int
    ys: Sequence[float]

    def x(self, step: float) -> float:
        return _LEFT + step / self.end * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.ys[0]) / (self.ys[-1] - self.ys[0])
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self) -> list[Safe]:
        found = []
        for tick in self.ys:
            y = f"{self.y(tick):.1f}"
            found.append(_line(_LEFT, y, _WIDTH - _RIGHT, y, "grid"))
            found.append(tag("text", short(tick), x=_LEFT - 5, y=y, dy=4, text_anchor="end"))
        steps = [tick for tick in _ticks(0, self.end, 3) if tick <= self.end]
        for tick in steps:
            x = f"{self.x(tick):.1f}"
            anchor = "end" if tick == self.end else "middle"
            words = f"{short(tick)} steps" if tick == steps[-1] else short(tick)
            found.append(tag("text", words, x=x, y=_HEIGHT - 5, text_anchor=anchor))
        return found


def _line(x1: object, y1: object, x2: object, y2: object, class_: str) -> Safe:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def short(value: float) -> str:
    """A tick: 20000 as 20k, 0.0005 as 5e−4."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k"
    if value and abs(value) < 2e-3:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", "−")
    return f"{round(value, 6):g}".replace("-", "−")


def _start(frame: _Frame, curve: Curve, start: float | None) -> list[Safe]:
    if start is None:
        return []
    y = f"{frame.y(start):.1f}"
    dot = tag("circle", cx=f"{frame.x(curve.steps[0]):.1f}", cy=y, r=3.5, class_="startdot")
    return [_line(_LEFT, y, _WIDTH - _RIGHT, y, "start"), dot]


def _paths(frame: _Frame, curve: Curve, smooth: bool) -> list[Safe]:
    """The running mean, over the raw values where there are enough of them."""
    if not smooth or len(curve.steps) < _NOISY:
        return [_polyline(frame, curve, "line")]
    return [_polyline(frame, curve, "raw"), _polyline(frame, _mean(curve), "line")]


def _mean(curve: Curve) -> Curve:
    """The running mean, where there are enough values."""
    if len(curve.steps) < _NOISY:
        return curve
    window = max(3, len(curve.steps) // 15)
    kernel = np.ones(window)
    counts = np.convolve(np.ones(len(curve.values)), kernel, "same")
    return Curve(curve.steps, np.convolve(curve.values, kernel, "same") / counts)


def _polyline(frame: _Frame, curve: Curve, class_: str) -> Safe:
    rows = np.unique(np.linspace(0, len(curve.steps) - 1, _MAX_POINTS).round().astype(int))
    points = " ".join(
        f"{frame.x(x):.1f},{frame.y(y):.1f}"
        for x, y in zip(curve.steps[rows], curve.values[rows], strict=True)
    )
    return tag("polyline", points=points, class_=class_)
