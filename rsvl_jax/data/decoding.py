"""Encoded images to pixels, at no greater size than will be looked at.

The size is read from the header, so that the view is drawn before anything is decoded: what is
drawn does not depend on how the image is decoded.
"""

from dataclasses import dataclass, replace

import numpy as np

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
_HEADER = 64  # segments before a JPEG's size; more than any camera writes
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # of the markers C0 to CF, those that do not begin a frame


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
    shape = image.shape if isinstance(image, Picture) else jpeg_shape(image)
    if shape is None:  # the size is known only after decoding
        assert isinstance(image, bytes)
        image = decode_within(image, side)
        shape = image.shape
    view = augmentation.draw(rng, shape)
    if augmentation.decode != FULL and view.interpolation == "linear":
        view = replace(view, interpolation=OVERSAMPLED)
    if isinstance(image, bytes):
        auto = augmentation.decode == AUTO
        image = _reduced(image, shape, view) if auto else decode_within(image, side)
    return view, view.image(image.pixels, image.scale)


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
    shape = jpeg_shape(data)
    reduce = 1
    if side and shape:
        reduce = next((k for k in _REDUCTIONS if max(shape) // k >= side), 1)
    pixels = _decode(data, reduce, shape)
    rows, columns = shape or pixels.shape[:2]
    longest = max(rows, columns)
    if not side or longest <= side:
        return Picture(pixels, (rows, columns))
    size = (max(1, round(rows * side / longest)), max(1, round(columns * side / longest)))
    small = resize(pixels, size, OVERSAMPLED)
    return Picture(small, (rows, columns), (size[0] / rows, size[1] / columns))


def _reduced(data: bytes, shape: tuple[int, int], view: View) -> Picture:
    reduce = reduction(view.crop, view.size)
    return Picture(_decode(data, reduce, shape), shape, (1 / reduce, 1 / reduce))


def _decode(data: bytes, reduce: int, shape: tuple[int, int] | None) -> np.ndarray:
    pixels = decode(data, reduce)
    if shape and pixels.shape[:2] != tuple(-(-length // reduce) for length in shape):
        raise CorruptImage(f"an image of {shape} pixels by its header has {pixels.shape[:2]}")
    return pixels


def reduction(crop: Crop, size: int) -> int:
    """By how much, 1, 2, 4 or 8, a JPEG may shrink before `crop` of it is resized to `size`."""
    side = min(crop.height, crop.width)
    return next((k for k in _REDUCTIONS if side >= k * size), 1)


def jpeg_shape(data: bytes) -> tuple[int, int] | None:
    """(rows, columns) from the header of a JPEG; None if it is none or does not say.

    Source: ITU-T T.81, B.1.1.4 (markers) and B.2.2 (frame header).
    """
    if data[:2] != b"\xff\xd8":
        return None
    place = 2
    for _ in range(_HEADER):
        segment = data[place : place + 9]
        if len(segment) < 9 or segment[0] != 0xFF:
            return None
        marker = segment[1]
        if marker == 0xFF:  # a fill byte
            place += 1
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            rows, columns = int.from_bytes(segment[5:7], "big"), int.from_bytes(segment[7:9], "big")
            return (rows, columns) if rows and columns else None
        else:
            place += 2 + int.from_bytes(segment[2:4], "big")
    return None
