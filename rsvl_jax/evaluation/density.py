"""How well a map of similarities follows a true density: correlation over cells of equal size.

GRAFT compares such maps with land use by eye (Figure 4); how it sums pixels up is not stated.
Here both rasters are averaged over square cells, cells with less than half of their pixels known
are left out, and Pearson's and Spearman's correlation are taken over the rest.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.bootstrap import REPLICATES, percentile

_KNOWN = 0.5
_BLOCK = 4  # cells a side that are resampled together: neighbours resemble one another


@dataclass(frozen=True)
class Correlation:
    """Pearson's and Spearman's coefficient with 95 % intervals, over `cells` cells."""

    pearson: float
    spearman: float
    pearson_interval: tuple[float, float]
    spearman_interval: tuple[float, float]
    cells: int


def cells(values: np.ndarray, side: int) -> np.ndarray:
    """Means over cells of `side` pixels, float64 [h,w]; NaN where too little is known.

    values float [H,W], NaN where unknown; rows and columns beyond whole cells are left out. Raises
    UserError where not one cell fits.
    """
    height, width = (length // side for length in values.shape)
    if not height or not width:
        raise UserError(f"no cell of {side} pixels fits into a map of {values.shape}")
    cut = np.asarray(values, np.float64)[: height * side, : width * side]
    parts = cut.reshape(height, side, width, side).transpose(0, 2, 1, 3).reshape(height, width, -1)
    known = np.isfinite(parts)
    count = known.sum(axis=-1)
    means = np.where(known, parts, 0).sum(axis=-1) / np.maximum(count, 1)
    return np.where(count >= _KNOWN * side * side, means, np.nan)


def correlation(density: np.ndarray, truth: np.ndarray, side: int, *, seed: int) -> Correlation:
    """Of two rasters of one grid, float [H,W], NaN where unknown.

    Intervals resample squares of 4 x 4 cells. Raises UserError for rasters of other shapes, and
    where fewer than three cells are known or one of the rasters is the same everywhere.
    """
    if density.shape != truth.shape:
        raise UserError(f"a density of {density.shape} and a truth of {truth.shape}: align them")
    left, right = cells(density, side), cells(truth, side)
    known = np.isfinite(left) & np.isfinite(right)
    x, y = left[known], right[known]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise UserError(f"{len(x)} known cells of {side} pixels do not vary: nothing to correlate")
    rows, columns = np.nonzero(known)
    blocks = rows // _BLOCK * known.shape[1] + columns // _BLOCK
    draws = np.array(list(_draws(x, y, blocks, seed)))
    return Correlation(
        pearson=float(stats.pearsonr(x, y).statistic),
        spearman=float(stats.spearmanr(x, y).statistic),
        pearson_interval=percentile(draws[:, 0]),
        spearman_interval=percentile(draws[:, 1]),
        cells=len(x),
    )


def _draws(x: np.ndarray, y: np.ndarray, blocks: np.ndarray, seed: int):
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    for _ in range(REPLICATES):
        chosen = rng.integers(0, len(members), len(members))
        rows = np.concatenate([members[block] for block in chosen])
        yield _pearson(x[rows], y[rows]), _pearson(stats.rankdata(x[rows]), stats.rankdata(y[rows]))


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 0 else float("nan")
