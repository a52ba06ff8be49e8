"""Labels of an image in memory from the patches of a text-aligned model."""

from dataclasses import dataclass

import numpy as np

from graft_jax.map.classes import most_similar
from graft_jax.map.similarity import Scan, dense
from graft_jax.segment.regions import Regions, mean_by_region
from graft_jax.towers import TextImageModel


@dataclass(frozen=True)
class Segmentation:
    """Attributes:
    labels: uint8 [H, W], number of the text; Q for none of them; 255 where not valid.
    scores: cosines float32 [Q, H, W] that decided, means over regions where there are any; NaN
      where not valid.
    """

    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Picture:
    """An image in memory, as `graft_jax.map.batches.Image`: RGB uint8 [H, W, 3], valid [H, W]."""

    pixels: np.ndarray
    valid: np.ndarray

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    def read(
        self, row: int, column: int, height: int, width: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A window, square without a width."""
        here = np.s_[row : row + height, column : column + (height if width is None else width)]
        return np.where(self.valid[here][..., None], self.pixels[here], 0), self.valid[here]


def segment(
    model: TextImageModel,
    image: np.ndarray,
    vectors: np.ndarray,
    *,
    valid: np.ndarray | None = None,
    regions: Regions | None = None,
    threshold: float | None = None,
    overlap: float = 0.5,
    batch_size: int = 32,
) -> Segmentation:
    """Cosines of patches with texts, bilinear at pixels, the highest wins (as GRAFT does it).

    Args:
      image: RGB uint8 [H, W, 3], no smaller than the model's input; windows of that size overlap.
      vectors: of the texts, unit, float32 [Q, E], see `graft_jax.map.queries.vectors`.
      valid: bool [H, W], pixels that are there; None for all.
      regions: proposals, each of which takes its mean cosine: `superpixels`, `SegmentAnything`.
      threshold: cosine below which a pixel is none of the texts.
      overlap: of neighbouring windows, a share of their side.
      batch_size: windows at a time.

    Raises UserError for an image smaller than a window.
    """
    seen = np.ones(image.shape[:2], bool) if valid is None else valid
    picture = Picture(image, seen)
    scores = dense(model, picture, Scan(vectors, overlap=overlap, batch_size=batch_size))
    if regions is not None:
        scores = mean_by_region(scores, regions(picture.read(0, 0, *image.shape[:2])[0], seen))
    return Segmentation(most_similar(scores, threshold), scores)
