"""Image-text matching: the yes-no loss, the rows that match, and hard negatives."""

import jax
import jax.numpy as jnp

from rsvl_jax.losses.masked import cross_entropy

Sum = tuple[jax.Array, jax.Array]


def matching(*, logits: jax.Array, labels: jax.Array, weights: jax.Array | None = None) -> Sum:
    """Cross-entropy of logits [B, 2] to labels int [B] (1: image and text match).

    weights float [B], None for all ones. Returns (sum, sum of weights), float32 [].
    """
    weights = jnp.ones(labels.shape, jnp.float32) if weights is None else weights
    return cross_entropy(logits=logits, labels=labels, weights=weights)


def matching_rows(labels: jax.Array) -> jax.Array:
    """labels int [B] -> float32 [B]: 1 where the pair matches; all ones where none does.

    FLAVA's rule for the rows of masked multimodal modelling and of the contrast
    (facebookresearch/multimodal, flava/model.py, `pos_mask`).
    """
    matches = (labels != 0).astype(jnp.float32)
    return jnp.where(jnp.any(matches > 0), matches, jnp.ones_like(matches))


def hard_negatives(
    *, similarity: jax.Array, excluded: jax.Array, rng: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """One column for each row, drawn from the row's softmax over the columns not excluded.

    similarity float [B, B], already scaled (ALBEF, arXiv:2107.07651 sec. 3.2); excluded bool
    [B, B]: what must not be drawn, the diagonal and identical captions at least. Returns
    (columns int32 [B], weights float32 [B]); the weight is 0 where a row excludes every column.
    """
    logits = jnp.where(excluded, -jnp.inf, jax.lax.stop_gradient(similarity.astype(jnp.float32)))
    possible = ~jnp.all(excluded, axis=1)
    # A row of -inf alone has no distribution: draw anything, the weight discards it.
    logits = jnp.where(possible[:, None], logits, 0.0)
    columns = jax.random.categorical(rng, logits, axis=1).astype(jnp.int32)
    return columns, possible.astype(jnp.float32)
