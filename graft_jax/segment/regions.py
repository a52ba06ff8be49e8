"""Region proposals, and what they do to the similarities of the pixels in them."""

from collections.abc import Callable, Sequence

import numpy as np

from rsvl_jax.errors import UserError

# image uint8 [H, W, 3], valid bool [H, W] -> the region of each pixel, int32 [H, W], from 1; 0 for
# pixels in none, as those that are not valid must be.
Regions = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Distance against Lab colour. At scikit-image's 10, grain of 12 grey levels frays superpixels so
# that boundaries between labels get worse than without any; at 20 they are right to the pixel.
_COMPACTNESS = 20.0
SMALLEST = 4  # pixels; a region below holds less than the noise of its pixels


def mean_by_region(scores: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Scores [Q, H, W], NaN where not valid -> each pixel's mean over its region, float32.

    Pixels in no region keep theirs, pixels that are not valid stay NaN and count for nothing.
    """
    inside = (regions > 0) & np.isfinite(scores[0])
    number = regions[inside]
    count = np.maximum(np.bincount(number), 1)
    found = np.array(scores, np.float32)
    for band in found:
        band[inside] = (np.bincount(number, band[inside]) / count)[number]
    return found


def superpixels(side: int) -> Regions:
    """SLIC superpixels (Achanta et al. 2012) of about `side` x `side` pixels, in CIE Lab.

    They follow the edges of the image, so a boundary between labels does, too.
    Raises UserError without scikit-image, or for superpixels below SMALLEST.
    """
    if side < SMALLEST:
        raise UserError(f"superpixels of {side} pixels are too small: give {SMALLEST} or more")
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise UserError(
            "superpixels need scikit-image, which is not installed: pip install "
            "'rsvl-jax[segment]', or take --refine=none"
        ) from error

    def cut(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
        count = max(1, round(valid.size / side**2))
        found = slic(image, n_segments=count, compactness=_COMPACTNESS, start_label=1)
        return np.where(valid, found, 0).astype(np.int32)

    return cut


def paint(masks: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Overlapping masks bool [H, W] -> one region a pixel, int32: the smallest mask that has it."""
    found = np.zeros(shape, np.int32)
    largest_first = sorted(masks, key=lambda mask: -int(mask.sum()))
    for number, mask in enumerate(largest_first, 1):
        found[mask] = number
    return found
