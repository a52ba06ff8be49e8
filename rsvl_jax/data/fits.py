"""How an image of any size becomes one of the square size that a model takes."""

from collections.abc import Callable

import numpy as np

from rsvl_jax.data.transforms import resize

Fit = Callable[[np.ndarray, int], np.ndarray]


def _pad(mode: str) -> Fit:
    def fit(image: np.ndarray, size: int) -> np.ndarray:
        rows, columns = (_middle(side, size) for side in image.shape[:2])
        image = image[rows, columns]
        edges = [((size - side) // 2, size - side - (size - side) // 2) for side in image.shape[:2]]
        return np.pad(image, [*edges, (0, 0)], mode=mode)  # type: ignore[call-overload]

    return fit


def _middle(side: int, size: int) -> slice:
    start = max(side - size, 0) // 2
    return slice(start, start + min(side, size))


# What "resize" does changes the ground that a pixel covers; padding keeps it, and a larger image
# loses its border instead.
FITS: dict[str, Fit] = {
    "resize": lambda image, size: resize(image, (size, size), "linear"),
    "pad": _pad("constant"),
    "pad_reflect": _pad("reflect"),
}


def reduced(image: np.ndarray, share: float) -> np.ndarray:
    """uint8 [H, W, C] with `share` of its pixels a side, each the mean of the area it covers."""
    rows, columns = (max(1, round(side * share)) for side in image.shape[:2])
    return resize(image, (rows, columns), "area")
