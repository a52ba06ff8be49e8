"""The page's pictures: scores by method, and differences; seeds are dots, intervals are bars."""

from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from reproduce import metrics
from reproduce.compare import Estimate, difference, estimate
from reproduce.metrics import Metric
from reproduce.plan import METHODS, UNTRAINED
from reproduce.result import Result

_COLOURS = {UNTRAINED: "#8a8a8a", "MAE": "#b07aa1", "CLIP": "#f28e2b", "FLAVA": "#59a14f"}
_OURS = "FLAVARS"
_COLOURS[_OURS] = "#1f5fa8"


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


def differences(groups: Mapping[str, Sequence[Result]], path: str) -> bool:
    """FLAVARS less each of its peers, on the same draws of blocks."""
    peers = [name for name in (UNTRAINED, *METHODS) if name in groups and name != _OURS]
    if _OURS not in groups or not peers:
        return False
    shown = (metrics.KNN, metrics.KNN_20, metrics.SEGMENTATION, metrics.ZEROSHOT, metrics.TEXT)
    figure, axes = plt.subplots(1, len(peers), figsize=(11, 2.6), layout="constrained")
    for axis, peer in zip(np.atleast_1d(axes), peers, strict=True):
        for row, metric in enumerate(reversed(shown)):
            found = difference(groups[_OURS], groups[peer], metric)
            if found is not None:
                _bar(axis, row, found, _COLOURS[_OURS])
        axis.axvline(0, color="black", linewidth=0.8)
        titles = [metric.title for metric in reversed(shown)]
        axis.set_yticks(range(len(shown)), titles if axis is np.atleast_1d(axes)[0] else [])
        axis.set_title(f"{_OURS} less {peer}, points", fontsize=9)
        _plain(axis)
        axis.set_ylim(-0.6, len(shown) - 0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def _bar(axis: Axes, row: int, found: Estimate, colour: str) -> None:
    axis.plot([found.low, found.high], [row, row], color=colour, linewidth=2, alpha=0.5)
    axis.plot(found.seeds, [row] * len(found.seeds), ".", color=colour, alpha=0.6)
    axis.plot([found.value], [row], "D", color=colour, markersize=6)


def _plain(axis: Axes) -> None:
    axis.tick_params(labelsize=8)
    axis.grid(axis="x", alpha=0.3)
    axis.spines[["top", "right", "left"]].set_visible(False)


def _panel(
    axis: Axes, metric: Metric, groups: Mapping[str, Sequence[Result]], names: Sequence[str]
) -> None:
    for row, name in enumerate(reversed(names)):
        found = estimate(groups[name], metric)
        if found is None:
            continue
        _bar(axis, row, found, _COLOURS[name])
    axis.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
    axis.set_ylim(-0.6, len(names) - 0.4)
    axis.set_title(f"{metric.title}, %", fontsize=9)
    _plain(axis)
