"""The k-means patch codebook: the embedded image tokenizer behind the token targets of MIM."""

import numpy as np
import scipy.sparse

from rsvl_jax.errors import UserError

_MAX_PATCHES = 100_000
_SEEDING_PATCHES = 20_000
_ITERATIONS = 12


def fit_patch_codebook(images: np.ndarray, *, patch_size: int, size: int, seed: int) -> np.ndarray:
    """Clusters image patches: k-means++ seeding, then Lloyd iterations.

    images: uint8 [M, H, W, 3]. Returns centroids float32 [size, patch_size * patch_size * 3],
    pixel values in [0, 1], each patch flattened row-major (h, w, c). At most 100,000 patches drawn
    at random are looked at. Arthur & Vassilvitskii 2007 (k-means++).
    """
    rng = np.random.default_rng(seed)
    patches = _sample(_patchify(images, patch_size), _MAX_PATCHES, rng).astype(np.float32) / 255
    if len(patches) < size:
        raise UserError(f"{len(patches)} patches cannot fill {size} centroids: give more images")
    centroids = _plus_plus(_sample(patches, max(_SEEDING_PATCHES, size), rng), size, rng)
    for _ in range(_ITERATIONS):
        centroids = _lloyd(patches, centroids)
    return centroids


def _patchify(images: np.ndarray, patch: int) -> np.ndarray:
    m, h, w, c = images.shape
    if h % patch or w % patch:
        raise UserError(f"patch size {patch} does not divide the image size {h}x{w}")
    grid = images.reshape(m, h // patch, patch, w // patch, patch, c)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(-1, patch * patch * c)


def _sample(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    if len(rows) <= count:
        return rows
    return rows[np.sort(rng.choice(len(rows), count, replace=False))]


def _plus_plus(patches: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Each next seed is drawn with probability proportional to its squared distance."""
    norms = np.einsum("nd,nd->n", patches, patches)
    chosen = [int(rng.integers(len(patches)))]
    nearest = np.full(len(patches), np.inf, np.float32)
    while True:
        seed = patches[chosen[-1]]
        nearest = np.minimum(nearest, np.maximum(norms + seed @ seed - 2 * (patches @ seed), 0))
        nearest[chosen[-1]] = 0
        if len(chosen) == size:
            return patches[chosen]
        mass = np.cumsum(nearest, dtype=np.float64)
        if mass[-1] < 1e-6:
            raise UserError(f"only {len(chosen)} distinct patches: ask for a codebook of that size")
        chosen.append(int(np.searchsorted(mass, rng.random() * mass[-1], side="right")))


def _lloyd(patches: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """One iteration; a cluster without members takes over the worst represented patch."""
    labels, distances = _assign(patches, centroids)
    rows = np.arange(len(patches))
    members = scipy.sparse.csr_matrix((np.ones(len(patches), np.float32), (labels, rows)))
    members.resize(len(centroids), len(patches))
    counts = np.bincount(labels, minlength=len(centroids))
    moved = (members @ patches) / np.maximum(counts, 1)[:, None].astype(np.float32)
    empty = np.flatnonzero(counts == 0)
    moved[empty] = patches[np.argsort(-distances, kind="stable")[: len(empty)]]
    return moved


def _assign(patches: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of each patch and the squared distance, less the patch's own norm."""
    labels = np.empty(len(patches), np.int64)
    distances = np.empty(len(patches), np.float32)
    half = np.einsum("kd,kd->k", centroids, centroids) / 2
    for start in range(0, len(patches), 8192):
        rows = slice(start, start + 8192)
        scores = patches[rows] @ centroids.T - half
        labels[rows] = scores.argmax(1)
        norms = np.einsum("nd,nd->n", patches[rows], patches[rows])
        distances[rows] = norms - 2 * scores.max(1)
    return labels, distances
