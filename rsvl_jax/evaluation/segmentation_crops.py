"""Images and masks for the training of segmentation: random crops and flips, read as they come."""

from dataclasses import dataclass

import numpy as np

from rsvl_jax.data.order import Epochs
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation_sets.collection import Collection

_ORDER, _CROP = 1, 2  # in the keys of what is drawn


def pair(of: Collection, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H,W,3] and mask uint8 [H,W] of a row.

    Raises UserError where the data have no masks, a mask is not of its image's size, or holds what
    is no class.
    """
    if of.masks is None:
        raise UserError(f"{of.name} {of.split} has no masks")
    image, mask = of.images[row], of.masks[row]
    if mask.shape != image.shape[:2]:
        raise UserError(
            f"{of.name}: the mask of {of.ids[row]!r} is {mask.shape}, its image {image.shape[:2]} "
            "pixels"
        )
    seg.check_labels(mask, len(of.pixel_classes))
    return image, mask


def padded(image: np.ndarray, size: tuple[int, int], fill: np.ndarray | int) -> np.ndarray:
    """The image, or mask, with `fill` below and to the right where it is smaller than `size`."""
    height, width = (max(have, want) for have, want in zip(image.shape, size, strict=False))
    if (height, width) == image.shape[:2]:
        return image
    found = np.empty((height, width, *image.shape[2:]), image.dtype)
    found[...] = fill
    found[: image.shape[0], : image.shape[1]] = image
    return found


@dataclass(frozen=True)
class Crops:
    """Square crops, each a function of the seed and of the number of its draw.

    Every image is drawn once an epoch. A crop lies anywhere in its image, and is flipped from left
    to right and upside down with probability 1/2 each: from above there is no up. Images smaller
    than a crop are padded with `fill`, their masks with IGNORE.

    Attributes:
      of: images with masks. size: pixels a side. fill: uint8 [3].
    """

    of: Collection
    size: int
    fill: np.ndarray
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "_order", Epochs((self.seed, _ORDER), len(self.of)))

    def __call__(self, draw: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [size,size,3] and [size,size]."""
        rng = np.random.default_rng((self.seed, _CROP, draw))
        image, mask = pair(self.of, self._order(draw))  # type: ignore[attr-defined]
        square = (self.size, self.size)
        image, mask = padded(image, square, self.fill), padded(mask, square, seg.IGNORE)
        top, left = (int(rng.integers(side - self.size + 1)) for side in mask.shape)
        window = (slice(top, top + self.size), slice(left, left + self.size))
        turn = tuple(slice(None, None, -1 if flip else 1) for flip in rng.random(2) < 0.5)
        return image[window][turn], mask[window][turn]
