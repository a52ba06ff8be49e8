"""Images as they are sent: JPEG or PNG, neither too small to see nor larger than is paid for."""

import io
import warnings
from dataclasses import dataclass

from PIL import Image

_SENT_AS_IS = {"JPEG": "image/jpeg", "PNG": "image/png"}
_PLAIN_MODES = ("RGB", "L")
_ORIENTATION = 0x0112  # EXIF's; servers may turn an image by it, and boxes would be of another one
_JPEG_QUALITY = 92


class Unfit(Exception):
    """An image that cannot be sent. The text is a short fixed phrase."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image.

    Attributes:
      data, mime: the file and its kind.
      width, height: pixels as sent.
      own_width, own_height: pixels of the original, in which boxes are kept.
    """

    data: bytes
    mime: str
    width: int
    height: int
    own_width: int
    own_height: int


def fit(width: int, height: int, least: int, most: int) -> tuple[int, int]:
    """The size at which an image is sent: its longer side in [least, most], its aspect kept."""
    longer = max(width, height)
    scale = min(max(longer, least), most) / longer
    return max(1, round(width * scale)), max(1, round(height * scale))


def size(data: bytes) -> tuple[int, int]:
    """Width and height by the header alone. Raises Unfit."""
    return _open(data).size


def prepare(data: bytes, least: int, most: int) -> Picture:
    """Decodes a file whole, and makes one of the right size where it is of another. Raises Unfit.

    A JPEG or PNG of the right size is sent byte for byte.
    """
    image = _open(data)
    try:
        image.load()
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception as error:  # Pillow's decoders raise many kinds for a broken file
        raise Unfit("image cannot be decoded") from error
    own, mime = image.size, _SENT_AS_IS.get(image.format or "")
    sent = fit(*own, least, most)
    if mime and image.mode in _PLAIN_MODES and not turned and sent == own:
        return Picture(data, mime, *own, *own)
    return Picture(_encode(image, sent), "image/jpeg", *sent, *own)


def _open(data: bytes) -> Image.Image:
    if not data:
        raise Unfit("image is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unfit("image is too large") from error
    except Exception as error:
        raise Unfit("image cannot be decoded") from error


def _encode(image: Image.Image, sent: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    resized = image.convert("RGB").resize(sent, Image.Resampling.BICUBIC)
    resized.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()
