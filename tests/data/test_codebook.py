"""The k-means patch codebook."""

import numpy as np
import pytest

from rsvl_jax.data.codebook import fit_patch_codebook
from rsvl_jax.errors import UserError


def _mosaic(prototypes: np.ndarray, count: int, noise: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [count, 16, 16, 3] of four 8 px patches each, and the prototype of each."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, len(prototypes), (count, 2, 2))
    images = prototypes[kinds].transpose(0, 1, 3, 2, 4, 5).reshape(count, 16, 16, 3)
    images = images + rng.integers(-noise, noise + 1, images.shape)
    return np.clip(images, 0, 255).astype(np.uint8), kinds


def test_it_finds_planted_patches():
    prototypes = np.random.default_rng(1).integers(10, 245, (12, 8, 8, 3))
    images, _ = _mosaic(prototypes, 200, noise=3)
    codebook = fit_patch_codebook(images, patch_size=8, size=12, seed=0)
    assert codebook.shape == (12, 192) and codebook.dtype == np.float32
    flat = prototypes.reshape(12, -1) / 255
    nearest = ((flat[:, None] - codebook[None]) ** 2).mean(-1).min(1)
    assert nearest.max() < (1 / 255) ** 2


def test_it_beats_random_patches_and_repeats_itself():
    rng = np.random.default_rng(2)
    images = rng.integers(0, 255, (100, 16, 16, 3)).astype(np.uint8)
    codebook = fit_patch_codebook(images, patch_size=8, size=16, seed=3)
    assert (codebook == fit_patch_codebook(images, patch_size=8, size=16, seed=3)).all()
    patches = images.reshape(100, 2, 8, 2, 8, 3).swapaxes(2, 3).reshape(-1, 192) / 255

    def distortion(centroids):
        return ((patches[:, None] - centroids) ** 2).sum(-1).min(1).mean()

    assert distortion(codebook) < 0.9 * distortion(patches[:16])


@pytest.mark.parametrize(
    ("shape", "patch", "size", "match"),
    [((2, 16, 16, 3), 7, 4, "divide"), ((2, 16, 16, 3), 8, 9, "cannot fill")],
)
def test_impossible_codebooks_say_why(shape, patch, size, match):
    images = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    with pytest.raises(UserError, match=match):
        fit_patch_codebook(images, patch_size=patch, size=size, seed=0)


def test_too_few_distinct_patches_say_so():
    with pytest.raises(UserError, match="only 1 distinct"):
        fit_patch_codebook(np.zeros((9, 16, 16, 3), np.uint8), patch_size=8, size=4, seed=0)
