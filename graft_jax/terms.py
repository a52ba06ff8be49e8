"""The two terms of GRAFT (arXiv:2312.06960): whole tiles, and patches, against ground photos.

    image_ground: the tile's projected class token against the embeddings of its photos
    pixel_ground: the projected patch that holds a photo's pixel against that photo's embedding

Photos of every other tile of the global batch are negatives, but for those of tiles that show the
same ground, and for copies of the same photo; see `rsvl_jax.losses.multi_positive`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from graft_jax.model import Student
from graft_jax.settings import IMAGE, PIXEL
from rsvl_jax.errors import UserError
from rsvl_jax.losses import masked, multi_positive
from rsvl_jax.losses.distributed import DENSE, Spread
from rsvl_jax.losses.relation import Relation, same_id
from rsvl_jax.training.objective import Term

Sample = dict[str, jax.Array]


def embed(model: Student, sample: Sample) -> dict[str, jax.Array]:
    """name -> anchors of every term that is on: of tiles [B, E], of photos' patches [B, P, E].

    sample: see `objective.GraftObjective.embed`.
    """
    s, out, found = model.settings, model.encode(sample["image"]), {}
    if IMAGE in s.weights:
        found[IMAGE] = out.embedding
    if PIXEL in s.weights:
        patches, _ = _patches(model, sample)
        # Gathered before the projection, which then runs on P patches of N.
        found[PIXEL] = model.projector(masked.gather(out.hidden[:, 1:], patches))
    return found


def relate(
    model: Student,
    anchors: dict[str, jax.Array],
    photos: jax.Array,
    sample: Sample,
    spread: Spread = DENSE,
) -> dict[str, Term]:
    """name -> (sum over tiles, tiles that have a photo) of every term that is on.

    anchors: of `embed`; photos: frozen embeddings [B, P, E]; spread: how devices divide the
    contrasts.
    """
    s = model.settings
    if photos.shape[-1] != s.satellite.embed_dim:
        raise UserError(
            f"photos are embedded in {photos.shape[-1]} dimensions, tiles in model.embed_dim="
            f"{s.satellite.embed_dim}: they are compared, set it to {photos.shape[-1]}"
        )
    ignore, masks = same_ground(sample, footprints=s.mask_overlaps), {IMAGE: sample["photo_mask"]}
    if PIXEL in anchors:
        masks[PIXEL] = sample["photo_mask"] & _patches(model, sample)[1]
    return {
        name: _contrast(model, found, photos, masks[name], sample, ignore, spread)
        for name, found in anchors.items()
    }


def _patches(model: Student, sample: Sample) -> tuple[jax.Array, jax.Array]:
    patch_size = model.settings.satellite.vit.patch_size
    return patch_of(sample["photo_xy"], sample["image"], patch_size)


def _contrast(
    model: Student,
    anchors: jax.Array,
    photos: jax.Array,
    mask: jax.Array,
    sample: Sample,
    ignore: Relation,
    spread: Spread,
) -> Term:
    arguments: dict[str, Any] = {
        "anchors": anchors,
        "photos": photos,
        "mask": mask,
        "logit_scale": model.logit_scale(),
        "photo_ids": sample["photo_id"],
        "ignore": ignore,
        "block_rows": model.settings.block_rows,
        "spread": spread,
    }
    if model.bias is not None:
        return multi_positive.sigmoid(**arguments, logit_bias=model.bias[...])
    return multi_positive.info_nce(**arguments, symmetric=model.settings.symmetric)


def patch_of(xy: jax.Array, images: jax.Array, patch_size: int) -> tuple[jax.Array, jax.Array]:
    """The patch that holds each pixel, int32 [B, P], row-major, and whether there is one.

    xy float32 [B, P, 2]: pixels right of the left edge and below the top edge of images [B, H, W,
    3]. A place outside of the image gets a patch at the border, and False.
    """
    size = jnp.array([images.shape[2], images.shape[1]])
    inside = jnp.all((xy >= 0) & (xy < size), axis=-1)
    cell = jnp.floor(jnp.clip(xy, 0, size - 1) / patch_size).astype(jnp.int32)
    return cell[..., 1] * (images.shape[2] // patch_size) + cell[..., 0], inside


def same_ground(sample: Sample, *, footprints: bool) -> Relation:
    """[B, B]: whether two tiles are the same tile, or, with `footprints`, overlap."""
    if not footprints:
        return same_id(sample["tile_id"])
    keys = sample["tile_id"], sample["footprint"]
    return Relation(keys, keys, _same_ground)


def _same_ground(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> jax.Array:
    return (a[0][:, None] == b[0]) | overlaps(a[1], b[1])


def overlaps(a: jax.Array, b: jax.Array) -> jax.Array:
    """Whether footprints a [A, 4] and b [B, 4] share ground, bool [A, B]; a shared edge is none.

    A footprint is west, south, east, north in degrees, float; longitudes count modulo 360, and
    east is not less than west: above 180 across the antimeridian.
    """
    west, south, east, north = (edge[:, None] for edge in a.astype(jnp.float32).T)
    west_b, south_b, east_b, north_b = b.astype(jnp.float32).T
    # Where one begins, seen from the beginning of the other, going east.
    meets = (jnp.mod(west_b - west, 360.0) < east - west) | (
        jnp.mod(west - west_b, 360.0) < east_b - west_b
    )
    return meets & (south < north_b) & (south_b < north)
