"""Small GeoTIFFs with known pixels."""

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM = "EPSG:32618"
CORNER = from_origin(435730.0, 4179460.0, 10.0, 10.0)


def write(path, pixels, **changes):
    """RGB or other bands [H, W, C] as a GeoTIFF of 10 m in UTM; its path."""
    pixels = np.asarray(pixels)
    height, width, count = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count}
    profile |= {"dtype": pixels.dtype, "crs": UTM, "transform": CORNER} | changes
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels.transpose(2, 0, 1))
    return str(path)


def plain(colour, height, width):
    """One colour everywhere, uint8 [H, W, 3]."""
    return np.broadcast_to(np.uint8(colour), (height, width, 3)).copy()


def patchwork(height, width, seed=0):
    """Random colours in irregular squares, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(0, 256, (height // 7 + 1, width // 7 + 1, 3), dtype=np.uint8)
    return cells.repeat(7, axis=0).repeat(7, axis=1)[:height, :width]


class Array:
    """An array as an image for `graft_jax.map.similarity`."""

    def __init__(self, pixels, valid=None):
        self.pixels = pixels
        self.valid = np.ones(pixels.shape[:2], bool) if valid is None else valid
        self.height, self.width = pixels.shape[:2]

    def read(self, row, column, height, width=None):
        here = slice(row, row + height), slice(column, column + (width or height))
        return np.where(self.valid[here][..., None], self.pixels[here], 0), self.valid[here]
