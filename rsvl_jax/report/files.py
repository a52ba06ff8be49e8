"""The files of a work directory that the report is made from."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import card
from rsvl_jax.storage import locate


@dataclass(frozen=True)
class Curve:
    """One metric over the steps at which it was logged.

    Attributes:
      steps: int [n], rising.
      values: float64 [n], all finite.
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Run:
    """What a run left on disk.

    Attributes:
      config: resolved config, nested.
      curves: metric -> its curve; empty without metrics.jsonl.
      cards: scores; empty without scores.json.
    """

    config: Mapping[str, Any]
    curves: Mapping[str, Curve]
    cards: tuple[card.Card, ...]

    @property
    def steps(self) -> int:
        """The last step that was logged."""
        return max((int(curve.steps[-1]) for curve in self.curves.values()), default=0)


def read(workdir: str) -> Run:
    """Reads config.json, metrics.jsonl and scores.json.

    Raises UserError where there is no such work directory, it holds no run, or nothing to report.
    """
    if not locate(workdir).is_dir():
        raise UserError(f"no work directory {workdir!r}: give the --workdir of a run")
    config = os.path.join(workdir, "config.json")
    if not locate(config).exists():
        raise UserError(f"no config.json in {workdir!r}: give the --workdir of a run")
    metrics, scores = (os.path.join(workdir, name) for name in ("metrics.jsonl", "scores.json"))
    logged, scored = locate(metrics).exists(), locate(scores).exists()
    if not logged and not scored:
        raise UserError(f"no metrics.jsonl and no scores.json in {workdir!r}: train first")
    return Run(
        config=_read_config(config),
        curves=_read_curves(metrics) if logged else {},
        cards=tuple(card.read(scores)) if scored else (),
    )


def _read_config(path: str) -> dict[str, Any]:
    try:
        config = json.loads(locate(path).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path!r} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path!r} holds {type(config).__name__}, expected an object of keys")
    return config


def _read_curves(path: str) -> dict[str, Curve]:
    """Metric -> curve. A later line of the same step wins; torn lines and nulls are skipped."""
    found: dict[str, dict[int, float]] = {}
    for line in locate(path).read_bytes().decode(errors="replace").splitlines():
        values = _parse(line)
        for name, value in values.items():
            if name != "step" and isinstance(value, int | float) and np.isfinite(value):
                found.setdefault(name, {})[values["step"]] = value
    return {name: _curve(points) for name, points in sorted(found.items())}


def _parse(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else {}


def _curve(points: Mapping[int, float]) -> Curve:
    steps = sorted(points)
    return Curve(np.array(steps), np.array([points[step] for step in steps], np.float64))
