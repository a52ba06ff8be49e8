"""Contrast of satellite tiles with their ground photos: several photos a tile, ragged (GRAFT).

Letters: B tiles, P photos a tile, padded, E embedding. At the image level a tile has one anchor
[B, E] for all of its photos; at the pixel level each photo has an anchor of its own [B, P, E], the
patch that it was taken in. Photos that are compared with an anchor:

- every valid photo of its own tile, and of every other tile, but
- no photo of a tile that `ignore` names, because it shows the same ground, and
- no copy of a photo that the anchor stands for (by `photo_ids`): of all photos of its tile at the
  image level, of the one photo at the pixel level. In the term of one photo, no other copy of it.

A tile without a valid photo takes no part, neither as anchor nor as candidate.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rsvl_jax.losses import pair_blocks
from rsvl_jax.losses.contrastive import unit
from rsvl_jax.losses.pair_blocks import LOWEST, Columns, Pairs, Rows

Sum = tuple[jax.Array, jax.Array]


def info_nce(
    *,
    anchors: jax.Array,
    photos: jax.Array,
    mask: jax.Array,
    logit_scale: jax.Array,
    photo_ids: jax.Array | None = None,
    ignore: jax.Array | None = None,
    symmetric: bool = False,
    block_rows: int | None = None,
) -> Sum:
    """InfoNCE of each photo against the photos of the whole batch (GRAFT, arXiv:2312.06960).

    With the cosine s of an anchor and a photo, photo j of tile i costs -log of exp(scale s_ij) over
    the sum of exp(scale s) of all photos compared with its anchor, its own included. A tile costs
    the mean over its photos, so that 25 of them weigh as much as one (SupCon's "out" form,
    arXiv:2004.11362 eq. 2). With one photo a tile that is the image half of CLIP's loss.

    Args:
      anchors: [B, E] (image level) or [B, P, E] (pixel level), any float dtype, any length.
      photos: [B, P, E], likewise.
      mask: bool [B, P], False where there is no photo; what stands there is never read.
      logit_scale: logarithm of the scale, [].
      photo_ids: int [B, P], equal for copies of one photo. None: all photos differ.
      ignore: bool [B, B]; where [i, j], photos of tile j are not compared with tile i. Its diagonal
        has no effect.
      symmetric: adds the other direction, each photo against the anchors of the batch by the same
        rules, and halves the sum; not in the paper.
      block_rows: tiles in a block of the matrix, over all devices; memory is then that of a block,
        and a multiple of the number of devices keeps them all busy. None: the whole matrix.

    Returns:
      (sum over tiles, number of tiles that have a photo), float32 [].
    """
    x, y = _embeddings(anchors, photos, mask)
    x *= jnp.exp(jnp.asarray(logit_scale, jnp.float32))
    above, below = pair_blocks.logsumexp(
        x, y, _pairs(x, mask, photo_ids, ignore), both=symmetric, size=block_rows
    )
    own, candidates = _own(x, y), _candidates(mask, photo_ids)
    costs = jnp.logaddexp(_tile_sum(own.logits, candidates), above) - own.positives
    if below is not None:
        # What a photo finds in its own tile: the one anchor, or those of the tile's photos.
        found = own.positives
        if anchors.ndim == 3:
            found = _tile_sum(own.logits.swapaxes(1, 2), candidates)
        costs = (costs + jnp.logaddexp(found, below) - own.positives) / 2
    return _mean_over_photos(costs, mask)


def sigmoid(
    *,
    anchors: jax.Array,
    photos: jax.Array,
    mask: jax.Array,
    logit_scale: jax.Array,
    logit_bias: jax.Array,
    photo_ids: jax.Array | None = None,
    ignore: jax.Array | None = None,
    block_rows: int | None = None,
) -> Sum:
    """Sigmoid contrast: each anchor and photo is a yes-no question (SigLIP, arXiv:2303.15343).

    Yes for an anchor and its photos; no for photos of other tiles, where a tile's photos count
    their mean, so that each pair of tiles weighs the same; with one photo a tile that is SigLIP's
    loss. At the pixel level the other photos of an anchor's own tile are left out: they may lie in
    the same patch. Arguments and result as `info_nce`, with logit_bias [] added to the logits.
    """
    scale, bias = (jnp.asarray(value, jnp.float32) for value in (logit_scale, logit_bias))
    x, y = _embeddings(anchors, photos, mask)
    x *= jnp.exp(scale)
    negatives = pair_blocks.softplus_sum(
        x, y, bias, _pairs(x, mask, photo_ids, ignore), _weights(mask), size=block_rows
    )
    costs = jax.nn.softplus(-(_own(x, y).positives + bias)) + negatives
    return _mean_over_photos(costs, mask)


class _Own(NamedTuple):
    """Products within a tile, [B, P, P]: the anchor of photo j with photo k; and those of j, j."""

    logits: jax.Array
    positives: jax.Array


def _embeddings(
    anchors: jax.Array, photos: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Unit vectors float32 [B, A, E] and [B, P, E]; A is 1 or P; zeros where there is no photo."""
    given = mask[..., None]
    anchors = anchors[:, None] if anchors.ndim == 2 else jnp.where(given, anchors, 0)
    return unit(anchors), unit(jnp.where(given, photos, 0))


def _pairs(
    x: jax.Array, mask: jax.Array, photo_ids: jax.Array | None, ignore: jax.Array | None
) -> Pairs:
    """What is compared with what: at the image level one anchor stands for all of its photos."""
    tile = jnp.arange(mask.shape[0])
    if x.shape[1] == 1:
        valid, axis = mask.any(1, keepdims=True), 1
    else:
        valid, axis = mask, 2
    names = named = None
    if photo_ids is not None:
        names, named = jnp.expand_dims(photo_ids, axis), jnp.expand_dims(mask, axis)
    return Pairs(Rows(valid, tile, names, named), Columns(mask, tile, photo_ids), ignore)


def _own(x: jax.Array, y: jax.Array) -> _Own:
    logits = jnp.einsum("bae,bpe->bap", x, y, precision=jax.lax.Precision.HIGHEST)
    logits = jnp.broadcast_to(logits, (*y.shape[:2], y.shape[1]))
    return _Own(logits, jnp.diagonal(logits, axis1=1, axis2=2))


def _candidates(mask: jax.Array, photo_ids: jax.Array | None) -> jax.Array:
    """bool [B, P, P]: photos k of a tile in the term of its photo j: no other copy of it."""
    found = jnp.broadcast_to(mask[:, None, :], (*mask.shape, mask.shape[1]))
    if photo_ids is None:
        return found
    copies = photo_ids[:, :, None] == photo_ids[:, None, :]
    return found & (~copies | jnp.eye(mask.shape[1], dtype=bool))


def _tile_sum(logits: jax.Array, candidates: jax.Array) -> jax.Array:
    """Log-sum-exp over the candidates of the own tile, [B, P, P] twice -> [B, P]."""
    return jax.nn.logsumexp(jnp.where(candidates, logits, LOWEST), axis=-1)


def _weights(mask: jax.Array) -> jax.Array:
    """float32 [B, P]: one over the number of photos of the tile, 0 where there is none."""
    return mask / jnp.maximum(mask.sum(1, keepdims=True, dtype=jnp.float32), 1)


def _mean_over_photos(costs: jax.Array, mask: jax.Array) -> Sum:
    """Costs [B, P] -> sum over tiles of the mean over their photos, and the number of tiles."""
    total = jnp.sum(jnp.where(mask, costs, 0) * _weights(mask))
    return total, mask.any(1).sum(dtype=jnp.float32)
