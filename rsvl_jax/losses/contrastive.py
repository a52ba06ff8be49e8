"""Contrast of two batches of embeddings: softmax (CLIP) and sigmoid (SigLIP), many positives."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsvl_jax.losses import pair_blocks
from rsvl_jax.losses.distributed import DENSE, Plan, Spread
from rsvl_jax.losses.relation import Relation, Test, of_matrix
from rsvl_jax.losses.sweep import LOWEST, Compare, Found, Side

Tree = Any
Sum = tuple[jax.Array, jax.Array]


def identical(ids: jax.Array) -> jax.Array:
    """ids int [B] -> bool [B, B], True where two rows carry the same id (their own included)."""
    return ids[:, None] == ids[None, :]


def unit(x: jax.Array) -> jax.Array:
    """x [..., E] scaled to length 1, float32; zeros stay zeros, with finite gradients."""
    return x.astype(jnp.float32) * inverse_length(x)[..., None]


def inverse_length(x: jax.Array) -> jax.Array:
    """x [..., E] -> float32 [...]: what scales it to length 1; finite for zeros."""
    x = x.astype(jnp.float32)
    return jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1), 1e-24))


def similarity(*, a: jax.Array, b: jax.Array, normalize: bool = True) -> jax.Array:
    """a [A, E], b [B, E] -> float32 [A, B] of dot products, of cosines where `normalize`."""
    a, b = (unit(x) if normalize else x.astype(jnp.float32) for x in (a, b))
    # Accelerators would multiply float32 in bfloat16; a scale of 100 makes that visible.
    return jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)


def info_nce(
    *,
    a: jax.Array,
    b: jax.Array,
    logit_scale: jax.Array,
    positives: jax.Array | Relation | None = None,
    row_weights: jax.Array | None = None,
    present: jax.Array | None = None,
    normalize: bool = True,
    block_rows: int | None = None,
    spread: Spread = DENSE,
) -> Sum:
    """Symmetric InfoNCE of the pairs (a_i, b_i) against the whole batch.

    With p = softmax over columns of exp(logit_scale) * a b^T and P(i) the columns that match a_i,
    row i costs -mean over P(i) of log p_i: the target is uniform over the positives (SupCon's
    "out" form, arXiv:2004.11362 eq. 2). With P(i) = {i} that is CLIP's loss (arXiv:2103.00020
    fig. 3). The other direction is the same of the transposed logits and positives; the result is
    the mean of both.

    Args:
      a, b: [B, E], any float dtype.
      logit_scale: logarithm of the scale, [].
      positives: bool [B, B], or a `Relation` that computes it: True where a_i and b_j match; the
        diagonal always does. None: only it.
      row_weights: float [B], the rows that count, in both directions (FLAVA keeps the matching
        pairs of its matching task); columns keep every row as a distractor. None: all.
      present: bool [B], the pairs that there are: the others are neither rows nor columns, as if
        the batch were smaller. None: all.
      normalize: contrast cosines; False takes the dot products as they are.
      block_rows: rows and columns in a block of the matrix, see `Spread.plan`. None: all of it.
      spread: how devices divide the work; the values are the same.

    Returns:
      (sum over rows, sum of row_weights of those present), float32 [].
    """
    weights = _row_weights(row_weights, present, a.shape[0])
    plan = spread.plan(tiles=a.shape[0], block_rows=block_rows)
    if plan is not None:
        sides = _sides(a, b, logit_scale, positives, present, normalize)
        rows = _blockwise_cross_entropy(sides, positives, plan)
        rows = rows if present is None else jnp.where(present, rows, 0)
        return jnp.sum(rows * weights), jnp.sum(weights)
    logits = jnp.exp(logit_scale.astype(jnp.float32)) * similarity(a=a, b=b, normalize=normalize)
    matches = _with_diagonal(positives, logits.shape[0])
    if present is not None:
        # Rows that are not there keep their own pair alone, which costs nothing.
        compared = _compared(present)
        logits, matches = jnp.where(compared, logits, LOWEST), matches & compared
    rows = (_cross_entropy(logits, matches) + _cross_entropy(logits.T, matches.T)) / 2
    return jnp.sum(rows * weights), jnp.sum(weights)


def sigmoid(
    *,
    a: jax.Array,
    b: jax.Array,
    logit_scale: jax.Array,
    logit_bias: jax.Array,
    positives: jax.Array | Relation | None = None,
    row_weights: jax.Array | None = None,
    present: jax.Array | None = None,
    normalize: bool = True,
    block_rows: int | None = None,
    spread: Spread = DENSE,
) -> Sum:
    """Sigmoid contrast: every pair (i, j) is a yes-no question (SigLIP, arXiv:2303.15343 alg. 1).

    Arguments and result as `info_nce`, with logit_bias [] added to the logits. A pair counts as
    much as the mean of its two rows' weights, which is what averaging both directions gives; in
    blocks, weights are held constant.
    """
    scale, bias = (jnp.asarray(x, jnp.float32) for x in (logit_scale, logit_bias))
    weights = _row_weights(row_weights, present, a.shape[0])
    plan = spread.plan(tiles=a.shape[0], block_rows=block_rows)
    if plan is not None:
        sides = _sides(a, b, scale, positives, present, normalize)
        halves = weights[:, None] / 2, weights[:, None] / 2
        compare = _comparison(positives, always=True)
        _, costs = pair_blocks.softplus_sum(*sides, bias, halves, compare, plan=plan)
        return jnp.sum(costs), jnp.sum(weights)
    logits = jnp.exp(scale) * similarity(a=a, b=b, normalize=normalize) + bias
    matches = _with_diagonal(positives, logits.shape[0])
    pairs = jax.nn.softplus(jnp.where(matches, -logits, logits))
    if present is not None:
        pairs = jnp.where(_compared(present), pairs, 0)
    return jnp.sum(pairs * (weights[:, None] + weights[None, :])) / 2, jnp.sum(weights)


def clamp(*, logit_scale: jax.Array, low: float | None, high: float | None) -> jax.Array:
    """The logarithm of a scale brought back into [low, high]; None leaves that side open.

    FLAVA and CLIP keep it in [0, ln 100], SatCLIP leaves it free.
    """
    return jnp.clip(logit_scale, low, high)


def _with_diagonal(positives: jax.Array | Relation | None, rows: int) -> jax.Array:
    diagonal = jnp.eye(rows, dtype=bool)
    if isinstance(positives, Relation):
        positives = positives.matrix()
    return diagonal if positives is None else positives | diagonal


def _row_weights(row_weights: jax.Array | None, present: jax.Array | None, rows: int) -> jax.Array:
    weights = jnp.ones(rows) if row_weights is None else row_weights.astype(jnp.float32)
    return weights if present is None else jnp.where(present, weights, 0)


def _compared(present: jax.Array) -> jax.Array:
    """bool [B, B]: pairs of rows that are both there, and the diagonal."""
    both = present[:, None] & present[None, :]
    return both | jnp.eye(present.shape[0], dtype=bool)


def _cross_entropy(logits: jax.Array, matches: jax.Array) -> jax.Array:
    """Float32 [B]: log-sum-exp of each row less the mean of its matching logits."""
    wanted = jnp.sum(logits, axis=1, where=matches) / jnp.sum(matches, axis=1)
    return jax.nn.logsumexp(logits, axis=1) - wanted


class _Keys(NamedTuple):
    """Number of a row, int [B], and what is known of it by the relation of positives."""

    row: jax.Array
    alike: Tree


def _sides(
    a: jax.Array,
    b: jax.Array,
    logit_scale: jax.Array,
    positives: jax.Array | Relation | None,
    present: jax.Array | None,
    normalize: bool,
) -> tuple[Side, Side]:
    scale = jnp.exp(jnp.asarray(logit_scale, jnp.float32))
    index = jnp.arange(a.shape[0])
    valid = jnp.ones((a.shape[0], 1), bool) if present is None else present[:, None]
    alike = _relation(positives)
    keys = (None, None) if alike is None else (alike.a, alike.b)
    lengths = [inverse_length(x) if normalize else jnp.ones(len(x)) for x in (a, b)]
    factors = scale * lengths[0], lengths[1]
    x, y = (
        Side(vectors[:, None], factor[:, None], valid, _Keys(index, key))
        for vectors, factor, key in zip((a, b), factors, keys, strict=True)
    )
    return x, y


def _relation(positives: jax.Array | Relation | None) -> Relation | None:
    if positives is None or isinstance(positives, Relation):
        return positives
    return of_matrix(positives, whole=False)


def _comparison(positives: jax.Array | Relation | None, *, always: bool) -> Compare:
    """All pairs are compared; matched, with the diagonal, are found where asked for `always`, or
    where there is more than the diagonal."""
    alike = _relation(positives)
    if alike is None and not always:
        return _compare_all
    return functools.partial(_compare, None if alike is None else alike.test)


def _compare_all(rows: _Keys, columns: _Keys) -> Found:
    return Found(None, None)


def _compare(test: Test | None, rows: _Keys, columns: _Keys) -> Found:
    matched = rows.row[:, None] == columns.row
    if test is not None:
        matched |= test(rows.alike, columns.alike)
    return Found(None, matched)


def _blockwise_cross_entropy(
    sides: tuple[Side, Side], positives: jax.Array | Relation | None, plan: Plan
) -> jax.Array:
    """Float32 [B]: the mean of both directions."""
    found = pair_blocks.logsumexp(
        *sides,
        _comparison(positives, always=False),
        both=True,
        matched=positives is not None,
        plan=plan,
    )
    assert found.below is not None  # both directions are asked for
    lse = (found.above + found.below)[:, 0] / 2
    if found.matched_above is None or found.matched_below is None:
        return lse - found.own[:, 0, 0]
    # a row that is not there matches none
    above, below = (
        x.total / jnp.maximum(x.pairs, 1) for x in (found.matched_above, found.matched_below)
    )
    return lse - (above + below)[:, 0] / 2
