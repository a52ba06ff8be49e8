"""The two terms of GRAFT (arXiv:2312.06960): whole tiles, and patches, against ground photos.

    image_ground: the tile's projected class token against the embeddings of its photos
    pixel_ground: the projected patch that holds a photo's pixel against that photo's embedding

Photos of every other tile of the global batch are negatives, but for those of tiles that show the
same ground, and for copies of the same photo; see `rsvl_jax.losses.multi_positive`.
"""

import jax
import jax.numpy as jnp

from graft_jax.model import Student
from graft_jax.settings import IMAGE, PIXEL
from rsvl_jax.errors import UserError
from rsvl_jax.losses import masked, multi_positive
from rsvl_jax.training.objective import Term

Sample = dict[str, jax.Array]


def compute(model: Student, sample: Sample, photos: jax.Array) -> dict[str, Term]:
    """name -> (sum over tiles, tiles that have a photo) of every term that is on.

    sample: see `objective.GraftObjective.terms`; photos: frozen embeddings [B, P, E].
    """
    s = model.settings
    if photos.shape[-1] != s.satellite.embed_dim:
        raise UserError(
            f"photos are embedded in {photos.shape[-1]} dimensions, tiles in model.embed_dim="
            f"{s.satellite.embed_dim}: they are compared, set it to {photos.shape[-1]}"
        )
    out, mask, found = model.encode(sample["image"]), sample["photo_mask"], {}
    ignore = same_ground(sample, footprints=s.mask_overlaps)
    if IMAGE in s.weights:
        found[IMAGE] = _contrast(model, out.embedding, photos, mask, sample, ignore)
    if PIXEL in s.weights:
        patches, inside = patch_of(sample["photo_xy"], sample["image"], s.satellite.vit.patch_size)
        # Gathered before the projection, which then runs on P patches of N.
        anchors = model.projector(masked.gather(out.hidden[:, 1:], patches))
        found[PIXEL] = _contrast(model, anchors, photos, mask & inside, sample, ignore)
    return found


def _contrast(
    model: Student,
    anchors: jax.Array,
    photos: jax.Array,
    mask: jax.Array,
    sample: Sample,
    ignore: jax.Array,
) -> Term:
    arguments = {
        "anchors": anchors,
        "photos": photos,
        "mask": mask,
        "logit_scale": model.logit_scale(),
        "photo_ids": sample["photo_id"],
        "ignore": ignore,
    }
    blocks = model.settings.block_rows
    if model.bias is not None:
        bias = model.bias[...]
        return multi_positive.sigmoid(**arguments, logit_bias=bias, block_rows=blocks)
    symmetric = model.settings.symmetric
    return multi_positive.info_nce(**arguments, symmetric=symmetric, block_rows=blocks)


def patch_of(xy: jax.Array, images: jax.Array, patch_size: int) -> tuple[jax.Array, jax.Array]:
    """The patch that holds each pixel, int32 [B, P], row-major, and whether there is one.

    xy float32 [B, P, 2]: pixels right of the left edge and below the top edge of images [B, H, W,
    3]. A place outside of the image gets a patch at the border, and False.
    """
    size = jnp.array([images.shape[2], images.shape[1]])
    inside = jnp.all((xy >= 0) & (xy < size), axis=-1)
    cell = jnp.floor(jnp.clip(xy, 0, size - 1) / patch_size).astype(jnp.int32)
    return cell[..., 1] * (images.shape[2] // patch_size) + cell[..., 0], inside


def same_ground(sample: Sample, *, footprints: bool) -> jax.Array:
    """bool [B, B]: whether two tiles are the same tile, or, with `footprints`, overlap."""
    tiles = sample["tile_id"]
    same = tiles[:, None] == tiles[None, :]
    return same | overlaps(sample["footprint"]) if footprints else same


def overlaps(footprint: jax.Array) -> jax.Array:
    """Whether two footprints share ground, bool [B, B]; a shared edge is none.

    footprint float32 [B, 4]: west, south, east, north in degrees; longitudes count modulo 360, and
    east is not less than west: above 180 across the antimeridian.
    """
    west, south, east, north = footprint.astype(jnp.float32).T
    # Where one begins, seen from the beginning of the other, going east.
    start = jnp.mod(west[None, :] - west[:, None], 360.0)
    width = east - west
    begins_inside = start < width[:, None]
    meets = begins_inside | begins_inside.T
    return meets & (south[:, None] < north[None, :]) & (south[None, :] < north[:, None])
