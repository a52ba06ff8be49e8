"""Images of any kind, as the model's input: uint8 [S, S, 3], S its image size."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvl_jax.data.transforms import CorruptImage, decode, resize
from rsvl_jax.errors import UserError
from rsvl_jax.weights.family import Json

# As Pillow resamples, which most published models were trained with, and their own tools do.
_METHODS = {"bicubic": "pillow_cubic", "bilinear": "pillow_linear", "linear": "linear"}
_RESIZES = ("shortest", "square")


@dataclass(frozen=True)
class Preprocessing:
    """What is done to an image; fields as in `weights.conventions.preprocessing`.

    Attributes:
      image_size: pixels a side of the model's input.
      mean, std: of pixels in [0, 1]; subtracted and divided by on the device.
      resize: "shortest", that edge to `image_size` and the middle cut out; "square", both edges.
      interpolation: "bicubic", "bilinear" (Pillow's, antialiased) or "linear" (OpenCV's; the mean
        over areas where the image shrinks), as in training here.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "shortest"
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        for name, value, known in (
            ("resize", self.resize, _RESIZES),
            ("interpolation", self.interpolation, tuple(_METHODS)),
        ):
            if value not in known:
                raise UserError(f"preprocessing {name}={value!r}: choose one of {', '.join(known)}")

    @classmethod
    def of(cls, own: Json) -> "Preprocessing":
        """From a model's own description."""
        known = {name: own[name] for name in ("resize", "interpolation") if name in own}
        return cls(own["image_size"], tuple(own["mean"]), tuple(own["std"]), **known)

    def __call__(self, image: Any) -> np.ndarray:
        """An array uint8 [H, W, 3], a PIL image or a path -> uint8 [S, S, 3].

        Raises UserError for anything else, and for files that are no images.
        """
        return self._fitted(pixels(image))

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        method, side = _METHODS[self.interpolation], self.image_size
        if self.resize == "square":
            return resize(image, (side, side), method)
        # The longer side is rounded down and the corner to the nearest, as torchvision does.
        shorter = min(image.shape[:2])
        target = (side * image.shape[0] // shorter, side * image.shape[1] // shorter)
        top, left = (round((length - side) / 2) for length in target)
        return resize(image, target, method)[top : top + side, left : left + side]


def pixels(image: Any) -> np.ndarray:
    """An image as an array uint8 [H, W, 3], see `Preprocessing.__call__`."""
    if isinstance(image, str | os.PathLike):
        return _read(os.fspath(image))
    if hasattr(image, "convert"):  # a PIL image
        image = np.asarray(image.convert("RGB"))
    array = np.asarray(image)
    if array.dtype != np.uint8:
        raise UserError(f"an image of {array.dtype}: give uint8, 0 to 255")
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UserError(f"an image of shape {array.shape}: give [height, width, 3], red first")
    return array


def _read(path: str) -> np.ndarray:
    try:
        with open(path, "rb") as file:
            return decode(file.read())
    except CorruptImage as error:
        raise UserError(f"{path!r} is no image that can be read: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read the image {path!r}: {error.strerror}") from error


def each(images: Any) -> Iterator[Any]:
    """The images of a batch, a list or a generator.

    Raises UserError for a single image, which would be taken for many.
    """
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise UserError(
            f"images of shape {images.shape}: give uint8 [n, height, width, 3], or a list of them"
        )
    if isinstance(images, str | os.PathLike) or not isinstance(images, Iterable):
        raise UserError(f"one image, {str(images)[:80]!r}: give a list of images")
    return iter(images)
