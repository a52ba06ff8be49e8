"""Contrast of two batches of embeddings: softmax (CLIP) and sigmoid (SigLIP), many positives."""

import jax
import jax.numpy as jnp

Sum = tuple[jax.Array, jax.Array]


def identical(ids: jax.Array) -> jax.Array:
    """ids int [B] -> bool [B, B], True where two rows carry the same id (their own included)."""
    return ids[:, None] == ids[None, :]


def unit(x: jax.Array) -> jax.Array:
    """x [..., E] scaled to length 1, float32; zeros stay zeros, with finite gradients."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


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
    positives: jax.Array | None = None,
    row_weights: jax.Array | None = None,
    normalize: bool = True,
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
      positives: bool [B, B], True where a_i and b_j match; the diagonal always does. None: only it.
      row_weights: float [B], the rows that count, in both directions (FLAVA keeps the matching
        pairs of its matching task); columns keep every row as a distractor. None: all.
      normalize: contrast cosines; False takes the dot products as they are.

    Returns:
      (sum over rows, sum of row_weights), float32 [].
    """
    logits = jnp.exp(logit_scale.astype(jnp.float32)) * similarity(a=a, b=b, normalize=normalize)
    matches = _with_diagonal(positives, logits.shape[0])
    weights = _row_weights(row_weights, logits.shape[0])
    rows = (_cross_entropy(logits, matches) + _cross_entropy(logits.T, matches.T)) / 2
    return jnp.sum(rows * weights), jnp.sum(weights)


def sigmoid(
    *,
    a: jax.Array,
    b: jax.Array,
    logit_scale: jax.Array,
    logit_bias: jax.Array,
    positives: jax.Array | None = None,
    row_weights: jax.Array | None = None,
    normalize: bool = True,
) -> Sum:
    """Sigmoid contrast: every pair (i, j) is a yes-no question (SigLIP, arXiv:2303.15343 alg. 1).

    Arguments and result as `info_nce`, with logit_bias [] added to the logits. A pair counts as
    much as the mean of its two rows' weights, which is what averaging both directions gives.
    """
    scale, bias = (jnp.asarray(x, jnp.float32) for x in (logit_scale, logit_bias))
    logits = jnp.exp(scale) * similarity(a=a, b=b, normalize=normalize) + bias
    matches = _with_diagonal(positives, logits.shape[0])
    weights = _row_weights(row_weights, logits.shape[0])
    pairs = jax.nn.softplus(jnp.where(matches, -logits, logits))
    return jnp.sum(pairs * (weights[:, None] + weights[None, :])) / 2, jnp.sum(weights)


def clamp(*, logit_scale: jax.Array, low: float | None, high: float | None) -> jax.Array:
    """The logarithm of a scale brought back into [low, high]; None leaves that side open.

    FLAVA and CLIP keep it in [0, ln 100], SatCLIP leaves it free.
    """
    return jnp.clip(logit_scale, low, high)


def _with_diagonal(positives: jax.Array | None, rows: int) -> jax.Array:
    diagonal = jnp.eye(rows, dtype=bool)
    return diagonal if positives is None else positives | diagonal


def _row_weights(row_weights: jax.Array | None, rows: int) -> jax.Array:
    return jnp.ones(rows, jnp.float32) if row_weights is None else row_weights.astype(jnp.float32)


def _cross_entropy(logits: jax.Array, matches: jax.Array) -> jax.Array:
    """Float32 [B]: log-sum-exp of each row less the mean of its matching logits."""
    wanted = jnp.sum(logits, axis=1, where=matches) / jnp.sum(matches, axis=1)
    return jax.nn.logsumexp(logits, axis=1) - wanted
