"""What a trained FLAVARS gives: features, embeddings in the shared spaces, filled-in images."""

import jax
import jax.numpy as jnp

from flavars_jax.model import FlavarsModel, Sample
from rsvl_jax.errors import UserError
from rsvl_jax.losses.contrastive import unit
from rsvl_jax.losses.masked import patch_statistics
from rsvl_jax.models.image_tokenizer import unit_range
from rsvl_jax.models.vit import patchify
from rsvl_jax.objectives import mae

GREY = 0.5  # of a hidden patch in a picture


def images(model: FlavarsModel, pixels: jax.Array) -> dict[str, jax.Array]:
    """Pixels uint8 [B, H, W, 3] -> float32 features of the whole image.

    cls [B, D] and patches [B, N, D]: tokens after the final LN; mean [B, D]: of the patches; and,
    where the model has the space, unit vectors text_space [B, E], text_patches [B, N, E] and
    location_space [B, E].
    """
    _need(model.image, "images")
    tokens = model.image(model.normalize(pixels)).tokens
    patches, pooled = tokens[:, 1:].astype(jnp.float32), model.pool(tokens)
    cls = tokens[:, 0].astype(jnp.float32)
    found = {"cls": cls, "mean": patches.mean(axis=1), "patches": patches}
    if model.image_text is not None:
        found["text_space"] = unit(model.image_text.image(pooled))
        found["text_patches"] = unit(model.image_text.image(tokens[:, 1:]))
    if model.image_location is not None:
        found["location_space"] = unit(model.image_location.image(pooled))
    return found


def texts(model: FlavarsModel, ids: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    """ids int [B, T], mask bool [B, T] -> unit vectors float32 [B, E].

    text_space: comparable with that of images; location_space: with that of places.
    """
    _need(model.text, "texts")
    cls = model.text(ids, mask).tokens[:, 0]
    found = {}
    if model.image_text is not None:
        found["text_space"] = unit(model.image_text.text(cls))
    if model.text_location is not None:
        found["location_space"] = unit(model.text_location.text(cls))
    return found


def locations(model: FlavarsModel, *, lon: jax.Array, lat: jax.Array) -> jax.Array:
    """Degrees [B] -> unit vectors float32 [B, E], comparable with `location_space`."""
    _need(model.location, "locations")
    return unit(model.location(lon=lon, lat=lat))


def reconstruct(model: FlavarsModel, sample: Sample) -> dict[str, jax.Array]:
    """Fills the hidden patches of sample["image"] from the image alone, or with its text.

    The head of `mim` does it, or that of `mmm_image` where there is no `mim` (which needs the
    text fields of the sample). Visual words are drawn as their centroids.

    Returns original, masked (hidden patches grey) and filled: float32 [B, H, W, 3] in [0, 1].
    Raises UserError where no term predicts patches, or words have no pixels ("dalle").
    """
    s = model.settings
    if not s.on & {"mim", "mmm_image"}:
        raise UserError("no term predicts patches: there is nothing to fill in")
    original = patchify(unit_range(sample["image"]), s.image.patch_size)
    if s.mae:
        hidden = ~mae.is_visible(sample["mae_keep"], s.patches)
        predicted = _predicted_pixels(model, sample)
    else:
        hidden, predicted = sample["mim_mask"], _predicted_centroids(model, sample)
    hidden = hidden[..., None]
    pictures = {
        "original": original,
        "masked": jnp.where(hidden, GREY, original),
        "filled": jnp.where(hidden, jnp.clip(predicted, 0, 1), original),
    }
    return {name: mae.unpatchify(patches, s.image.grid) for name, patches in pictures.items()}


def _predictions(model: FlavarsModel, sample: Sample) -> jax.Array:
    """What the head says of every patch, [B, N, ...], before the loss."""
    s = model.settings
    image = model.encode_images(sample, clean=False, masked=True).masked
    if "mim" in s.on:
        if s.mae:
            return model.decoder(image.tokens, sample["mae_keep"])
        return model.mim_head(image.tokens[:, 1:])
    text = model.encode_texts(sample, clean=False, masked=True).masked
    fused = model.fuse_masked(image, text, sample)
    return model.mmm_image_head(fused[:, 2 : 2 + s.patches])


def _predicted_centroids(model: FlavarsModel, sample: Sample) -> jax.Array:
    if model.settings.image_tokenizer != "patches":
        raise UserError("visual words of 'dalle' have no pixels without its decoder")
    words = jnp.argmax(_predictions(model, sample), axis=-1)
    return model.tokenizer.centroids[...][words]


def _predicted_pixels(model: FlavarsModel, sample: Sample) -> jax.Array:
    """Predictions brought back to [0, 1]; normalised ones borrow the true patch's statistics.

    As the demo of facebookresearch/mae does: a per-patch normalisation cannot be undone otherwise.
    """
    s = model.settings
    predicted = _predictions(model, sample).astype(jnp.float32)
    if s.norm_pixels:
        true = patchify(model.normalize(sample["image"]), s.image.patch_size)
        mean, deviation = patch_statistics(true)
        predicted = predicted * deviation + mean
    pixels = predicted.reshape(*predicted.shape[:-1], -1, 3)
    pixels = pixels * jnp.asarray(s.std) + jnp.asarray(s.mean)
    return pixels.reshape(predicted.shape)


def _need(tower: object, what: str) -> None:
    if tower is None:
        raise UserError(f"this model has no encoder of {what}: no term of its objective trains one")
