"""Image files of any kind as uint8 RGB, by rules that a card can state.

Grey images are repeated in three channels; transparency is dropped; palettes and CMYK are converted
by Pillow; of animations the first frame counts. More than eight bits, or more than four bands, need
a sensor, whose table says which bands are red, green and blue, and which values black and white.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rsvl_jax.data.transforms import CorruptImage, decode
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.sensors import SENSORS

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif")
_EIGHT_BITS = ("RGB", "L", "P", "1", "RGBA", "LA", "PA", "CMYK", "YCbCr", "RGBX")
RULES = "grey repeated, transparency dropped, palette and CMYK converted"


@dataclass(frozen=True)
class Pictures:
    """Image files, read when they are asked for: row -> uint8 [H,W,3].

    Attributes:
      root, names: the files.
      sensor: of files with more bits or bands; "" for none.
      added: what was added to all of a sensor's values, such as Sentinel-2's 1,000.
    """

    root: str
    names: Sequence[str]
    sensor: str = ""
    added: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> np.ndarray:
        if not 0 <= row < len(self):
            raise IndexError(f"image {row} of {len(self)}")
        return read(os.path.join(self.root, self.names[row]), self.sensor, self.added)

    def mode(self, row: int) -> str:
        """Pillow's name of the kind of pixels, such as "RGB" or "CMYK"; "bands" if it has none."""
        try:
            with Image.open(os.path.join(self.root, self.names[row])) as image:
                return image.mode
        except (OSError, ValueError, SyntaxError):
            return "bands"


def read(path: str, sensor: str = "", added: int = 0) -> np.ndarray:
    """uint8 [H,W,3]. Raises UserError for what cannot be read, or not without a sensor."""
    try:
        with open(path, "rb") as file:
            data = file.read()
        with Image.open(io.BytesIO(data)) as image:
            plain, kind = image.mode in _EIGHT_BITS, image.format
            if plain and not (kind in ("JPEG", "PNG") and image.mode in ("RGB", "L")):
                return np.asarray(image.convert("RGB"))
        if plain:
            return decode(data)
    except FileNotFoundError as error:
        raise UserError(f"{path!r} is not there") from error
    except CorruptImage as error:
        raise UserError(f"{path!r} cannot be decoded: mend or delete it") from error
    except (OSError, ValueError, SyntaxError) as error:
        if not path.lower().endswith((".tif", ".tiff")):
            raise UserError(f"{path!r} cannot be decoded ({error}): mend or delete it") from error
    return _of_sensor(path, sensor, added)


@dataclass(frozen=True)
class Bands:
    """Image files with all of their bands as they are: row -> float32 [H,W,C]."""

    root: str
    names: Sequence[str]
    count: int

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> np.ndarray:
        path = os.path.join(self.root, self.names[row])
        found, _ = bands(path)
        if found.shape[2] != self.count:
            raise UserError(f"{path!r} has {found.shape[2]} bands: {self.count} are wanted")
        return found.astype(np.float32)


def _of_sensor(path: str, sensor: str, added: int) -> np.ndarray:
    found, names = bands(path)
    if not sensor:
        with contextlib.suppress(ImportError):
            bands(path)  # says so where the file is damaged
        raise UserError(
            f"{path!r} has more than 8 bits or 4 bands: say which sensor it is of "
            f"({', '.join(SENSORS)})"
        )
    try:
        chosen = SENSORS[sensor].bands(found.shape[2], names)
    except UserError as error:
        raise UserError(f"{path!r}: {error}") from error
    return shown(found[..., [band - 1 for band in chosen]], sensor, added)


def shown(rgb: np.ndarray, sensor: str, added: int = 0) -> np.ndarray:
    """Red, green and blue values [H,W,3] of a sensor as uint8, by its black and white."""
    rgb = rgb.astype(np.float32)
    scale = SENSORS[sensor].scale(added)
    if scale is None:
        return rgb.clip(0, 255).astype(np.uint8)
    black, white = scale
    return np.round((rgb - black) / (white - black) * 255).clip(0, 255).astype(np.uint8)


def bands(path: str) -> tuple[np.ndarray, tuple[str | None, ...]]:
    """All bands as they are, [H,W,C], and their names. Raises UserError for a damaged file."""
    try:
        import rasterio
    except ImportError as error:
        raise UserError(f"{path!r} has more than RGB: pip install rsvl-jax[geo]") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                return np.moveaxis(file.read(), 0, -1), tuple(file.descriptions)
    except rasterio.errors.RasterioError as error:
        raise UserError(f"{path!r} cannot be decoded: mend or delete it") from error
