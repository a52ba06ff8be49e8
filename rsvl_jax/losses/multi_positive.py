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

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsvl_jax.losses import pair_blocks, relation
from rsvl_jax.losses.contrastive import inverse_length
from rsvl_jax.losses.distributed import DENSE, Plan, Spread
from rsvl_jax.losses.relation import Relation, Test
from rsvl_jax.losses.sweep import LOWEST, Compare, Found, Side

Sum = tuple[jax.Array, jax.Array]
Tree = Any


def info_nce(
    *,
    anchors: jax.Array,
    photos: jax.Array,
    mask: jax.Array,
    logit_scale: jax.Array,
    photo_ids: jax.Array | None = None,
    ignore: jax.Array | Relation | None = None,
    symmetric: bool = False,
    block_rows: int | None = None,
    spread: Spread = DENSE,
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
      ignore: bool [B, B], or a `Relation` that computes it; where [i, j], photos of tile j are not
        compared with tile i. Its diagonal has no effect.
      symmetric: adds the other direction, each photo against the anchors of the batch by the same
        rules, and halves the sum; not in the paper.
      block_rows: tiles in a block of the matrix, of one device where it is spread, else over all
        devices: a multiple of their number then keeps them all busy. Memory is that of a block.
        None: the whole matrix, but for "ring".
      spread: how devices divide the work; the values are the same.

    Returns:
      (sum over tiles, number of tiles that have a photo), float32 [].
    """
    batch = _Batch(anchors, photos, mask, logit_scale, photo_ids, ignore)
    sides, compare, plan = _prepare(batch, spread, block_rows)
    found = pair_blocks.logsumexp(*sides, compare, both=symmetric, plan=plan)
    own, candidates = _own(found.own), _candidates(mask, photo_ids)
    costs = jnp.logaddexp(_tile_sum(own.logits, candidates), found.above) - own.positives
    if found.below is not None:
        # What a photo finds in its own tile: the one anchor, or those of the tile's photos.
        mine = own.positives
        if anchors.ndim == 3:
            mine = _tile_sum(own.logits.swapaxes(1, 2), candidates)
        costs = (costs + jnp.logaddexp(mine, found.below) - own.positives) / 2
    return _mean_over_photos(costs, mask)


def sigmoid(
    *,
    anchors: jax.Array,
    photos: jax.Array,
    mask: jax.Array,
    logit_scale: jax.Array,
    logit_bias: jax.Array,
    photo_ids: jax.Array | None = None,
    ignore: jax.Array | Relation | None = None,
    block_rows: int | None = None,
    spread: Spread = DENSE,
) -> Sum:
    """Sigmoid contrast: each anchor and photo is a yes-no question (SigLIP, arXiv:2303.15343).

    Yes for an anchor and its photos; no for photos of other tiles, where a tile's photos count
    their mean, so that each pair of tiles weighs the same; with one photo a tile that is SigLIP's
    loss. At the pixel level the other photos of an anchor's own tile are left out: they may lie in
    the same patch. Arguments and result as `info_nce`, with logit_bias [] added to the logits.
    """
    batch = _Batch(anchors, photos, mask, logit_scale, photo_ids, ignore)
    sides, compare, plan = _prepare(batch, spread, block_rows)
    bias, photo_weights = jnp.asarray(logit_bias, jnp.float32), _weights(mask)
    weights = jnp.zeros_like(sides[0].factor), photo_weights
    own, negatives = pair_blocks.softplus_sum(*sides, bias, weights, compare, plan=plan)
    costs = jax.nn.softplus(-(_own(own).positives + bias)) + negatives
    return _mean_over_photos(costs, mask)


class _Own(NamedTuple):
    """Products within a tile, [B, P, P]: the anchor of photo j with photo k; and those of j, j."""

    logits: jax.Array
    positives: jax.Array


class _Rows(NamedTuple):
    """What tells tiles of anchors apart: tile int [B]; near: of `ignore`; names int [B, A, K] and
    named bool [B, A, K]: the ids of the photos that an anchor stands for. None: not given."""

    tile: jax.Array
    near: Tree
    names: jax.Array | None
    named: jax.Array | None


class _Columns(NamedTuple):
    """What tells tiles of photos apart: tile int [B]; near: of `ignore`; ids int [B, P]."""

    tile: jax.Array
    near: Tree
    ids: jax.Array | None


class _Batch(NamedTuple):
    """Arguments of both losses."""

    anchors: jax.Array
    photos: jax.Array
    mask: jax.Array
    logit_scale: jax.Array
    photo_ids: jax.Array | None
    ignore: jax.Array | Relation | None


def _prepare(
    batch: _Batch, spread: Spread, block_rows: int | None
) -> tuple[tuple[Side, Side], Compare, Plan | None]:
    """Both sides of the matrix, what is compared in it, and how it is cut."""
    anchors, photos, mask, logit_scale, photo_ids, ignore = batch
    pixel = anchors.ndim == 3
    anchors = anchors if pixel else anchors[:, None]
    tiles, slots = mask.shape
    plan = spread.plan(tiles=tiles, anchors=anchors.shape[1], photos=slots, block_rows=block_rows)
    if ignore is not None and not isinstance(ignore, Relation):
        ignore = relation.of_matrix(ignore, whole=plan is None)
    # At the image level one anchor stands for all photos of its tile.
    valid = mask if pixel else mask.any(1, keepdims=True)
    tile, names, named = jnp.arange(tiles), None, None
    if photo_ids is not None:
        names, named = (jnp.expand_dims(x, 2 if pixel else 1) for x in (photo_ids, mask))
    near = (None, None) if ignore is None else (ignore.a, ignore.b)
    scale = jnp.exp(jnp.asarray(logit_scale, jnp.float32))
    rows, columns = _Rows(tile, near[0], names, named), _Columns(tile, near[1], photo_ids)
    x = Side(anchors, scale * _inverse_lengths(anchors, valid), valid, rows)
    y = Side(photos, _inverse_lengths(photos, mask), mask, columns)
    compare = functools.partial(
        _compare, anchors.shape[1], slots, None if ignore is None else ignore.test
    )
    return (x, y), compare, plan


def _inverse_lengths(vectors: jax.Array, valid: jax.Array) -> jax.Array:
    return inverse_length(jnp.where(valid[..., None], vectors, 0))


def _compare(anchors: int, photos: int, test: Test | None, rows: _Rows, columns: _Columns) -> Found:
    """Pairs of different tiles, not ignored, and no copy of what the anchor stands for."""
    per_anchor = functools.partial(jnp.repeat, repeats=anchors, axis=0)
    per_photo = functools.partial(jnp.repeat, repeats=photos, axis=0)
    found = per_anchor(rows.tile)[:, None] != per_photo(columns.tile)
    if test is not None:
        near = test(rows.near, columns.near)
        found &= ~per_photo(per_anchor(near).T).T
    if rows.names is not None and rows.named is not None and columns.ids is not None:
        ids = columns.ids.reshape(-1)
        for index in range(rows.names.shape[-1]):
            name, named = (x[..., index].reshape(-1, 1) for x in (rows.names, rows.named))
            found &= ~((name == ids) & named)
    return Found(found, None)


def _own(logits: jax.Array) -> _Own:
    logits = jnp.broadcast_to(logits, (logits.shape[0], *2 * logits.shape[2:]))
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
