"""Encoded images: which are kept as they are, which are converted, which are dropped.

Kept byte for byte: JPEG and PNG of 8 bits, RGB or grey. Converted to RGB: CMYK (to JPEG), palettes,
alpha channels (the channel is left out), bilevel images and the formats TIFF, BMP, GIF and WebP (to
PNG; lossy WebP to JPEG). Dropped: more than 8 bits a channel (how they map to 8 is not for a
converter to guess), animations, and what is no image or damaged. Sizes are read from the header, so
that no bomb is ever decoded.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from rsvl_jax.data.transforms import resize
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.reader import Drop

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
_PLAIN = ("L", "RGB")  # of 8 bits
_QUALITY = 95  # where JPEG is what suits the source, and no other was asked for
_BITS_PER_SAMPLE = 258  # tag of TIFF
_FLAT = 2.0  # standard deviation of grey values below which a picture has no features to hash


@dataclass(frozen=True, slots=True)
class Checked:
    """An image to store.

    Attributes:
      data: encoded bytes. width, height: in pixels. change: what was done to it, "" for nothing.
      scale: of its sides, 1.0 if it was not made smaller.
      looks: perceptual hash, 64 bits; 0 where none was asked for.
    """

    data: bytes
    width: int
    height: int
    change: str
    scale: float
    looks: int


def check(data: bytes, options: Options, *, decode: bool = True) -> Checked:
    """The image as it is to be stored. Raises Drop, with the reason, for one that is not.

    decode: whether every pixel is decoded to see that it can be; else only the header is read
    (for an image that was checked before), and `looks` is 0.
    """
    image = _open(data)
    width, height = image.size
    if min(width, height) < options.min_side:
        raise Drop("image is too small", f"{width} x {height}")
    if width * height > options.max_pixels:
        raise Drop("image is too large", f"{width} x {height}")
    if _bits(image, data) > 8:
        raise Drop("image has more than 8 bits a channel", image.mode)
    frames = getattr(image, "n_frames", 1)
    if image.format not in ("JPEG", "MPO") and frames > 1:
        raise Drop("image is animated", f"{frames} frames")
    try:
        return _stored(image, data, options, decode)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise Drop("image cannot be decoded", _line(error)) from error


def _open(data: bytes) -> Image.Image:
    """The header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes, which are judged here
            return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise Drop("image is too large", _line(error)) from error
    except UnidentifiedImageError as error:
        raise Drop("not an image", f"it starts with {data[:24]!r}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Drop("image cannot be decoded", _line(error)) from error


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits a channel, also where Pillow would quietly halve them."""
    if image.format == "PNG":
        return data[24]  # IHDR
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS_PER_SAMPLE, (8,)))  # type: ignore[attr-defined]
    return 16 if image.mode in ("I", "F") or image.mode.startswith("I;") else 8


def _stored(image: Image.Image, data: bytes, options: Options, decode: bool) -> Checked:
    width, height = image.size
    jpeg = image.format in ("JPEG", "MPO")
    plain = image.mode in _PLAIN and (jpeg or image.format == "PNG")
    smaller = options.max_side is not None and max(width, height) > options.max_side
    if not plain or smaller or options.quality is not None:
        return _converted(image, data, options, plain, decode)
    if not decode:
        return Checked(data, width, height, "", 1.0, 0)
    if jpeg:
        image.draft("L", (64, 64))  # all its bits are read, but few pixels are made of them
    return Checked(
        data, width, height, "", 1.0, perceptual_hash(np.asarray(image.convert("L")), data)
    )


def _converted(
    image: Image.Image, data: bytes, options: Options, plain: bool, decode: bool
) -> Checked:
    kind = f"{image.mode} {image.format}"
    lossy = image.format in ("JPEG", "MPO") or data[12:16] == b"VP8 "
    if image.mode in ("P", "PA", "LA"):
        image = image.convert("RGBA")
    pixels = np.asarray(image.convert("RGB"))
    height, width = pixels.shape[:2]
    scale = min(1.0, (options.max_side or max(width, height)) / max(width, height))
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in (height, width))
        pixels = resize(pixels, (height, width), "area")
    encoded = _encoded(pixels, options.quality or (_QUALITY if lossy else None))
    change = "image encoded anew, as asked" if plain else f"image converted to RGB from {kind}"
    looks = perceptual_hash(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), encoded) if decode else 0
    return Checked(encoded, width, height, change, scale, looks)


def _encoded(pixels: np.ndarray, quality: int | None) -> bytes:
    """RGB uint8 [H, W, 3] as JPEG of a quality, or as PNG."""
    how = {"format": "PNG"} if quality is None else {"format": "JPEG", "quality": quality}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **how)
    return buffer.getvalue()


def perceptual_hash(grey: np.ndarray, data: bytes) -> int:
    """64 bits that survive another encoding or size: signs of the lowest frequencies (pHash).

    grey: uint8 [H, W]. A picture without features, such as open sea, is like its equals in bytes
    alone. Source: Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions".
    """
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < _FLAT:
        return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "little")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
