"""Encoded images to pixels, at no greater size than will be looked at.

The size is read from the header, so that the view is drawn before anything is decoded: what is
drawn does not depend on how the image is decoded.
"""

from dataclasses import dataclass, replace

import numpy as np

from rsvl_jax.data.jpeg import Frame, decode_rows, frame
from rsvl_jax.data.transforms import (
    OVERSAMPLED,
    Augmentation,
    CorruptImage,
    Crop,
    View,
    decode,
    resize,
)
from rsvl_jax.errors import UserError

AUTO, FULL = "auto", "full"
_REDUCTIONS = (8, 4, 2)


@dataclass(frozen=True)
class Picture:
    """Decoded pixels uint8 [h, w, 3] of an image of `shape` (rows, columns), maybe fewer of them.

    scale: pixels to one of the image, by rows and columns.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)


def look(
    image: bytes | Picture, augmentation: Augmentation, rng: np.random.Generator
) -> tuple[View, np.ndarray]:
    """Draws a view of an image and takes it: the view, and its pixels uint8 [size, size, 3].

    `augmentation.decode`: "full": the whole image at its own size. "auto": a JPEG at a half, a
    quarter or an eighth where what is left of the crop is no smaller than the view; its edges
    then move by at most half a pixel of the view, and the shrinking that remains is "oversampled".
    A number: at most so many pixels long, before the crop. A Picture is taken as it is.

    Raises CorruptImage.
    """
    side = longest_side(augmentation.decode)
    source = image if isinstance(image, Picture) else _source(image, side)
    view = augmentation.draw(rng, source.shape)
    if augmentation.decode != FULL and view.interpolation == "linear":
        view = replace(view, interpolation=OVERSAMPLED)
    if isinstance(source, _Encoded):
        auto = augmentation.decode == AUTO
        source = _for_view(source, view) if auto else decode_within(source.data, side)
    return view, view.image(source.pixels, source.scale)


@dataclass(frozen=True)
class _Encoded:
    """A JPEG whose size is known."""

    data: bytes
    header: Frame

    @property
    def shape(self) -> tuple[int, int]:
        return self.header.shape


def _source(image: bytes, side: int) -> Picture | _Encoded:
    header = frame(image)  # without one the size is known only after decoding
    return _Encoded(image, header) if header else decode_within(image, side)


def longest_side(choice: str) -> int:
    """The pixels that a `decode` choice allows, 0 for any; UserError for what is no choice."""
    if choice in (AUTO, FULL):
        return 0
    if not (choice.isascii() and choice.isdigit() and int(choice)):
        raise UserError(
            f"data.decode={choice!r} is unknown: use 'auto', 'full' or the pixels of the longer "
            "side, such as '320'"
        )
    return int(choice)


def decode_within(data: bytes, side: int) -> Picture:
    """The image at most `side` pixels long, its aspect kept; 0: at its own size."""
    header = frame(data)
    reduce = 1
    if side and header:
        reduce = next((k for k in _REDUCTIONS if max(header.shape) // k >= side), 1)
    pixels = decode(data, reduce)
    _check(pixels, header, reduce)
    rows, columns = header.shape if header else pixels.shape[:2]
    longest = max(rows, columns)
    if not side or longest <= side:
        return Picture(pixels, (rows, columns))
    size = (max(1, round(rows * side / longest)), max(1, round(columns * side / longest)))
    small = resize(pixels, size, OVERSAMPLED)
    return Picture(small, (rows, columns), (size[0] / rows, size[1] / columns))


def _for_view(image: _Encoded, view: View) -> Picture:
    """As small as the view allows, and no further down than it reaches."""
    reduce = reduction(view.crop, view.size)
    pixels = decode_rows(image.data, image.header, view.crop.top + view.crop.height, reduce)
    if pixels is None:
        pixels = decode(image.data, reduce)
        _check(pixels, image.header, reduce)
    return Picture(pixels, image.shape, (1 / reduce, 1 / reduce))


def _check(pixels: np.ndarray, header: Frame | None, reduce: int) -> None:
    if header and pixels.shape[:2] != tuple(-(-length // reduce) for length in header.shape):
        raise CorruptImage(
            f"an image of {header.shape} pixels by its header has {pixels.shape[:2]}"
        )


def reduction(crop: Crop, size: int) -> int:
    """By how much, 1, 2, 4 or 8, a JPEG may shrink before `crop` of it is resized to `size`."""
    side = min(crop.height, crop.width)
    return next((k for k in _REDUCTIONS if side >= k * size), 1)
