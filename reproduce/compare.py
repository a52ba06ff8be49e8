"""Groups of runs beside one another: means over seeds, intervals over geographic blocks.

Every group is scored on the same draws of blocks, so that differences are of pairs. The intervals
say how much hangs on which places were held out, not on the seed of training: the standard
deviation over seeds stands beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reproduce.metrics import Metric
from reproduce.result import Result
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.bootstrap import REPLICATES, percentile


@dataclass(frozen=True)
class Estimate:
    """A score or a difference of scores, in % or percentage points.

    Attributes:
      value: mean over seeds. low, high: 95 % interval over blocks. seeds: of each seed.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]

    @property
    def deviation(self) -> float:
        """Standard deviation over seeds; NaN of one."""
        return float(np.std(self.seeds, ddof=1)) if len(self.seeds) > 1 else float("nan")

    @property
    def verdict(self) -> str:
        """Of a difference: whether its interval leaves zero out."""
        if self.low > 0:
            return "higher"
        return "lower" if self.high < 0 else "not told apart"


def estimate(results: Sequence[Result], metric: Metric, reference: str = "") -> Estimate | None:
    """A group's score; None where it has none.

    reference: of which predictor of the runs, instead of the runs' own models.
    """
    found = _replicates(results, metric, reference)
    if found is None:
        return None
    values, draws = found
    return Estimate(float(values.mean()), *percentile(draws.mean(axis=0)), tuple(values.tolist()))


def difference(
    ours: Sequence[Result], theirs: Sequence[Result], metric: Metric, reference: str = ""
) -> Estimate | None:
    """Score of `ours` less that of `theirs` (of a reference of theirs), on the same draws.

    Raises UserError where they were scored on other tiles.
    """
    if {r.split_fingerprint for r in ours} != {r.split_fingerprint for r in theirs}:
        raise UserError(f"{ours[0].run} and {theirs[0].run} were scored on other tiles")
    left, right = _replicates(ours, metric, ""), _replicates(theirs, metric, reference)
    if left is None or right is None:
        return None
    draws = left[1].mean(axis=0) - right[1].mean(axis=0)
    seeds = zip(left[0], right[0], strict=False)  # as far as both have a seed
    value = left[0].mean() - right[0].mean()
    return Estimate(float(value), *percentile(draws), tuple(float(a - b) for a, b in seeds))


def _replicates(
    results: Sequence[Result], metric: Metric, reference: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Values [S] and their draws [S, replicates] of S seeds, in %."""
    task = f"{metric.task} | {reference}" if reference else metric.task
    sums = [result.sums(task) for result in results]
    if not sums or any(each is None for each in sums):
        return None
    blocks = np.stack([each for each in sums if each is not None])
    statistic = metric.statistic(blocks[0].sum(axis=0))
    values = 100 * np.array([statistic(each.sum(axis=0)) for each in blocks])
    return values, 100 * np.array([statistic(draws(len(each)) @ each) for each in blocks])


def draws(blocks: int) -> np.ndarray:
    """How often each block was drawn, float64 [replicates, blocks]; always the same."""
    chances = np.full(blocks, 1 / blocks)
    return np.random.default_rng(0).multinomial(blocks, chances, size=REPLICATES).astype(np.float64)
