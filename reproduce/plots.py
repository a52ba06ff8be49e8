"""The page's picture: each score by method, seeds as dots, intervals over blocks as bars."""

from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from reproduce import metrics
from reproduce.compare import estimate
from reproduce.metrics import Metric
from reproduce.plan import METHODS, UNTRAINED
from reproduce.result import Result

_COLOURS = {UNTRAINED: "#8a8a8a", "MAE": "#b07aa1", "CLIP": "#f28e2b", "FLAVA": "#59a14f"}
_COLOURS["FLAVARS"] = "#1f5fa8"


def scores(groups: Mapping[str, Sequence[Result]], path: str) -> bool:
    """Draws it, where there is anything to be drawn."""
    names = [name for name in (UNTRAINED, *METHODS) if name in groups]
    if not names:
        return False
    figure, axes = plt.subplots(2, 4, figsize=(11, 4.6), layout="constrained")
    for axis, metric in zip(axes.flat, metrics.METRICS, strict=False):
        _panel(axis, metric, groups, names)
    for axis in axes.flat[len(metrics.METRICS) :]:
        axis.axis("off")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def _panel(
    axis: Axes, metric: Metric, groups: Mapping[str, Sequence[Result]], names: Sequence[str]
) -> None:
    for row, name in enumerate(reversed(names)):
        found = estimate(groups[name], metric)
        if found is None:
            continue
        colour = _COLOURS[name]
        axis.plot([found.low, found.high], [row, row], color=colour, linewidth=2, alpha=0.5)
        axis.plot(found.seeds, [row] * len(found.seeds), ".", color=colour, alpha=0.6)
        axis.plot([found.value], [row], "D", color=colour, markersize=6)
    axis.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.tick_params(axis="x", labelsize=8)
    axis.set_title(f"{metric.title}, %", fontsize=9)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right", "left"]].set_visible(False)
