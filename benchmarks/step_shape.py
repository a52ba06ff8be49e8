"""The shape and the batch that both sides of `benchmarks/step.py` share. NumPy only."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """Sizes of the benchmark's FLAVA: a narrow one, so that a step takes seconds on two cores."""

    batch: int = 16
    image: int = 224
    patch: int = 16
    width: int = 192
    depth: int = 12
    heads: int = 3
    fusion_depth: int = 6
    text: int = 77
    vocabulary: int = 30_522
    codebook: int = 8_192
    masked_patches: int = 75
    masked_tokens: int = 12  # ceil(.15 * 77)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.image // self.patch, self.image // self.patch

    @property
    def patches(self) -> int:
        """Patches of an image, N."""
        return self.grid[0] * self.grid[1]


SHAPE = Shape()
# FLAVA's own towers, for accelerators.
BASE = Shape(width=768, heads=12)
SIZES = {"small": SHAPE, "base": BASE}
BUCKETS = (16, 24, 32, 48, 64, 77)


def captions() -> np.ndarray:
    """Token counts of real captions: SkyScript-like titles, class and special tokens included.

    Two to six tags joined by commas, as the published multi-object titles are; the draw is fixed.
    """
    rng = np.random.default_rng(7)
    return np.clip(rng.poisson(rng.integers(8, 34, size=4096)), 5, SHAPE.text)


def paired_batch(batch: int, lengths: np.ndarray | None, *, trim: bool) -> dict[str, np.ndarray]:
    """Returns one random paired batch, the same for every contender.

    Args:
      batch: rows B.
      lengths: token counts to draw from; None fills every row to the full length.
      trim: cut the text to the smallest of BUCKETS that holds the longest row.
    """
    rng = np.random.default_rng(0)
    drawn = np.full(batch, SHAPE.text) if lengths is None else rng.choice(lengths, batch)
    length = next(b for b in BUCKETS if b >= drawn.max()) if trim else SHAPE.text
    mask = np.arange(length) < drawn[:, None]
    text = np.where(mask, rng.integers(1000, SHAPE.vocabulary, (batch, SHAPE.text))[:, :length], 0)
    positions, weights = _choose(rng, drawn)
    labels = np.take_along_axis(text, positions, axis=1)
    masked = text.copy()
    np.put_along_axis(masked, positions, np.where(weights > 0, 103, labels), axis=1)
    dense = np.full_like(text, -100)
    np.put_along_axis(dense, positions, np.where(weights > 0, labels, -100), axis=1)
    patches = np.stack([rng.permutation(SHAPE.patches)[: SHAPE.masked_patches] for _ in drawn])
    patches.sort(axis=1)
    mim_mask = np.zeros((batch, SHAPE.patches), bool)
    np.put_along_axis(mim_mask, patches, True, axis=1)
    codes = rng.integers(0, SHAPE.codebook, (batch, SHAPE.patches)).astype(np.int32)
    image = rng.integers(0, 256, (batch, SHAPE.image, SHAPE.image, 3)).astype(np.uint8)
    return {
        "image": image,
        "image_normalised": (image / 127.5 - 1).astype(np.float32),
        "mim_mask": mim_mask,
        "mim_positions": patches.astype(np.int32),
        "mim_weights": np.ones(patches.shape, np.float32),
        "mim_labels": np.take_along_axis(codes, patches, axis=1),
        "mim_labels_dense": codes,
        "text": text.astype(np.int32),
        "text_mask": mask,
        "text_masked": masked.astype(np.int32),
        "mlm_positions": positions.astype(np.int32),
        "mlm_labels": labels.astype(np.int32),
        "mlm_weights": weights.astype(np.float32),
        "mlm_labels_dense": dense,
        "text_id": np.arange(batch, dtype=np.int32),
        "itm_label": (np.arange(batch) % 10 != 0).astype(np.int32),
        "lon": np.linspace(-180, 179, batch, dtype=np.float32),
        "lat": np.linspace(-60, 60, batch, dtype=np.float32),
    }


def _choose(rng: np.random.Generator, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws 15 % of each row's tokens: positions [B, K] and weights [B, K]."""
    positions = np.zeros((len(lengths), SHAPE.masked_tokens), np.int64)
    weights = np.zeros(positions.shape)
    for row, length in enumerate(lengths):
        count = max(1, int(np.ceil(0.15 * length)))
        order = rng.permutation(length)
        # Spare places point at positions of their own, so that scattering them is harmless.
        take = order[: SHAPE.masked_tokens]
        positions[row, : len(take)] = take
        positions[row, len(take) :] = take[-1]
        weights[row, : min(count, len(take))] = 1
    return positions, weights
