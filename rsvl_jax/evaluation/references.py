"""What a score must be read beside: predictors that have learned nothing, or nothing of pixels.

A land-cover score says little by itself: colours alone, or the place alone, reach half of it.
(The same encoder untrained is a further reference; suites extract its features like any other.)
"""

import numpy as np

from rsvl_jax.evaluation.segmentation import grid_of
from rsvl_jax.evaluation.tiles import Tiles
from rsvl_jax.evaluation.vectors import on_sphere

_PERCENTILES = (5, 25, 50, 75, 95)
_CHUNK = 512


def majority(train_labels: np.ndarray, n: int, num_classes: int) -> np.ndarray:
    """The most frequent training class, n times: int32 [n]; ties to the lowest."""
    counts = np.bincount(np.asarray(train_labels).reshape(-1), minlength=num_classes)
    return np.full(n, counts[:num_classes].argmax(), np.int32)


def colour_statistics(images: np.ndarray) -> np.ndarray:
    """Mean, standard deviation and five percentiles of each channel, float32 [n, 7*3].

    images uint8 [n,H,W,3]; values in [0, 255].
    """
    return np.concatenate(
        [_statistics(images[start : start + _CHUNK]) for start in range(0, len(images), _CHUNK)]
    )


def _statistics(images: np.ndarray) -> np.ndarray:
    # One contiguous row a channel: percentiles of strided rows take four times as long.
    pixels = np.moveaxis(images, -1, 1).reshape(len(images), images.shape[-1], -1).copy()
    mean = pixels.mean(axis=2, dtype=np.float64)
    std = pixels.std(axis=2, dtype=np.float64)
    percentiles = np.percentile(pixels, _PERCENTILES, axis=2)
    return np.concatenate([mean, std, *percentiles], axis=1).astype(np.float32)


def standardise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [.,D] with the training mean and standard deviation of each dimension taken out."""
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 1e-6, std, 1.0)
    return (train - mean) / std, (test - mean) / std


def features(train: Tiles, test: Tiles) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Reference features by name: (train float32 [n,D], test float32 [m,D]), ready for kNN.

    Colours are standardised by the training tiles. Places are points on the unit sphere, where
    the squared distance grows with the distance on the ground, across the date line too.
    """
    colours = [colour_statistics(tiles.images) for tiles in (train, test)]
    latitude = [np.abs(tiles.lat)[:, None].astype(np.float32) for tiles in (train, test)]
    both = [np.concatenate(pair, axis=1) for pair in zip(colours, latitude, strict=True)]
    places = [on_sphere(lon=tiles.lon, lat=tiles.lat) for tiles in (train, test)]
    return {
        "colour statistics": standardise(colours[0], colours[1]),
        "colour statistics + |latitude|": standardise(both[0], both[1]),
        "longitude/latitude alone": (places[0], places[1]),
    }


def raw_patches(images: np.ndarray, tokens: int) -> np.ndarray:
    """Pixels of each patch in the place of its token, float32 [n, N, p*p*3] in [0, 1].

    images uint8 [n,H,W,3], cut row by row into N square patches.
    """
    n, height, width, channels = images.shape
    rows, columns = grid_of(tokens, (height, width))
    cut = images.reshape(n, rows, height // rows, columns, width // columns, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(n, tokens, -1).astype(np.float32) / 255
