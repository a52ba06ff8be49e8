"""Semantic segmentation by a linear head on frozen patch tokens, and its metrics.

The head is the field's usual one (torchgeo-bench `seg-linear`, DINOv2 "linear"): one linear layer
per patch token, logits upsampled bilinearly to pixels, pixel cross-entropy, unknown pixels
ignored. A linear layer and bilinear weights commute, so training on a sample of pixels is a
multinomial logistic regression on the tokens interpolated at those pixels: a convex problem that
L-BFGS solves in seconds, without a learning rate or an order of examples.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import linear_probe
from rsvl_jax.evaluation.classification import mean_present

IGNORE = 255
PIXELS_PER_TILE = 16
_TILE_CHUNK = 64


def grid_of(tokens: int, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of N square patches that cover an image of `size` (height, width).

    Raises UserError where no square patch does.
    """
    height, width = size
    patch = math.isqrt(height * width // tokens)
    grid = (height // patch, width // patch) if patch else (0, 0)
    if grid[0] * grid[1] != tokens:
        raise UserError(f"{tokens} patch tokens do not tile an image of {height}x{width} pixels")
    return grid


def upsampling(cells: int, pixels: int) -> np.ndarray:
    """Bilinear weights of one axis, float32 [pixels, cells]; rows sum to one.

    Pixel centres are at half positions and edges are clamped (align_corners=False).
    """
    weights = jax.image.resize(jnp.eye(cells), (pixels, cells), "linear", antialias=False)
    return np.asarray(weights, np.float32)


def sample_pixels(
    masks: np.ndarray, *, seed: int, per_tile: int = PIXELS_PER_TILE
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labelled pixels to train on: (tile, row, column, class), each int [M].

    masks uint8 [n,H,W] with IGNORE where unknown; per_tile pixels of each tile are drawn, and
    those that turn out to be unknown are dropped.
    """
    n, height, width = masks.shape
    rng = np.random.default_rng(seed)
    count = min(per_tile, height * width)
    chosen = np.argsort(rng.random((n, height * width), dtype=np.float32), axis=1)[:, :count]
    tile = np.repeat(np.arange(n), count)
    row, column = np.divmod(chosen.reshape(-1), width)
    label = masks[tile, row, column].astype(np.int64)
    known = label != IGNORE
    return tile[known], row[known], column[known], label[known]


def fit_head(
    patches: np.ndarray, masks: np.ndarray, num_classes: int, *, seed: int
) -> linear_probe.LinearHead:
    """Linear head for patch tokens [n,N,D] and masks uint8 [n,H,W] (IGNORE = unknown).

    Raises UserError where no pixel is labelled, or a label is not in [0, num_classes).
    """
    check_labels(masks, num_classes)
    tile, row, column, label = sample_pixels(masks, seed=seed)
    if not label.size:
        raise UserError(f"segmentation masks hold no labelled pixel (all are {IGNORE})")
    up, across = _axes(patches.shape[1], masks.shape[1:])
    grid = patches.reshape(len(patches), up.shape[1], across.shape[1], -1)
    weights = np.einsum("mi,mj->mij", up[row], across[column])
    features = np.empty((len(label), patches.shape[2]), np.float32)
    for t, start, stop in _runs(tile):
        features[start:stop] = np.tensordot(weights[start:stop], grid[t], axes=2)
    return linear_probe.fit(features, label, num_classes)


def _runs(tile: np.ndarray) -> list[tuple[int, int, int]]:
    """(tile, start, stop) of each run of equal values in a sorted array."""
    tiles, starts = np.unique(tile, return_index=True)
    return list(
        zip(tiles.tolist(), starts.tolist(), [*starts[1:].tolist(), len(tile)], strict=True)
    )


def predict(
    head: linear_probe.LinearHead, patches: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Class of every pixel, uint8 [n,H,W], from patch tokens [n,N,D]; chunked over tiles."""
    up, across = _axes(patches.shape[1], size)
    grid = patches.reshape(len(patches), up.shape[1], across.shape[1], -1)
    weight, bias = head.folded()
    chunk = min(_TILE_CHUNK, len(grid))
    found = []
    for start in range(0, len(grid), chunk):
        rows = np.arange(start, start + chunk).clip(max=len(grid) - 1)
        found.append(np.asarray(_pixel_classes(grid[rows], weight, bias, up, across)))
    return np.concatenate(found)[: len(grid)]


@jax.jit
def _pixel_classes(
    grid: jax.Array, weight: jax.Array, bias: jax.Array, up: jax.Array, across: jax.Array
) -> jax.Array:
    highest = jax.lax.Precision.HIGHEST
    logits = jnp.einsum("bijd,dc->bijc", grid, weight, precision=highest) + bias
    logits = jnp.einsum("yi,xj,bijc->byxc", up, across, logits, precision=highest)
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


def _axes(tokens: int, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = grid_of(tokens, (size[0], size[1]))
    return upsampling(rows, size[0]), upsampling(columns, size[1])


def confusion(predictions: np.ndarray, masks: np.ndarray, num_classes: int) -> np.ndarray:
    """Pixels of each (true, predicted) class pair in each tile, int64 [n, C*C].

    predictions and masks uint8 [n,H,W]; pixels whose mask is IGNORE are left out. Rows are summed
    (and resampled) before they are handed to the functions below.
    """
    check_labels(masks, num_classes)
    tile = np.arange(len(masks)).reshape(-1, 1, 1)
    cell = (tile * num_classes + masks) * num_classes + predictions
    cells = len(masks) * num_classes * num_classes
    return np.bincount(cell[masks != IGNORE], minlength=cells).reshape(len(masks), -1)


def check_labels(masks: np.ndarray, num_classes: int) -> None:
    strange = masks[(masks >= num_classes) & (masks != IGNORE)]
    if strange.size:
        raise UserError(
            f"mask holds class {strange[0]}: classes are 0..{num_classes - 1}, {IGNORE} is unknown"
        )


def per_class_iou(totals: np.ndarray) -> np.ndarray:
    """Intersection over union of each class: summed confusions [..., C*C] -> [..., C].

    NaN for classes that have no true pixel: they do not enter the mean, but pixels wrongly given
    to them still count as misses of the true class.
    """
    matrix = _square(totals)
    truth, predicted = matrix.sum(axis=-1), matrix.sum(axis=-2)
    hit = np.diagonal(matrix, axis1=-2, axis2=-1)
    union = truth + predicted - hit
    return np.where(truth > 0, hit / np.maximum(union, 1), np.nan)


def mean_iou(totals: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
    """Mean IoU over the classes present in the truth, [..., C*C] -> [...].

    among: bool [C], classes that may enter the mean; None for all.
    """
    ious = per_class_iou(totals)
    return mean_present(ious if among is None else ious[..., among])


def class_shares(totals: np.ndarray) -> np.ndarray:
    """Share of each class among the known true pixels: [..., C*C] -> [..., C]."""
    truth = _square(totals).sum(axis=-1)
    return truth / np.maximum(truth.sum(axis=-1, keepdims=True), 1)


def frequency_weighted_iou(totals: np.ndarray) -> np.ndarray:
    """IoU weighted by each class's share of true pixels: [..., C*C] -> [...]."""
    return np.nansum(per_class_iou(totals) * class_shares(totals), axis=-1)


def pixel_accuracy(totals: np.ndarray) -> np.ndarray:
    """Share of known pixels predicted right: [..., C*C] -> [...]."""
    matrix = _square(totals)
    return np.trace(matrix, axis1=-2, axis2=-1) / np.maximum(matrix.sum(axis=(-2, -1)), 1)


def _square(totals: np.ndarray) -> np.ndarray:
    classes = math.isqrt(totals.shape[-1])
    return np.asarray(totals, np.float64).reshape(*totals.shape[:-1], classes, classes)
