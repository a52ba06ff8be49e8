"""Images, boxes and coordinates in NumPy and OpenCV. Random ones take a `np.random.Generator`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rsvl_jax.errors import UserError

# The pipeline runs several samples at once; OpenCV's own threads would only get in their way.
cv2.setNumThreads(0)
cv2.utils.logging.setLogLevel(0)  # what cannot be decoded is said by `decode`, with the record

_METHODS = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}
OVERSAMPLED = "oversampled"
# Beyond this ratio linear and cubic skip source pixels: OpenCV does not antialias, area does.
_ALIASING = 1.5
_REDUCED = {1: 0, 2: 16, 4: 32, 8: 64}  # the bits of IMREAD_REDUCED_COLOR_2 and so on
_CROP_TRIES = 10


class CorruptImage(UserError):
    """An encoded image that cannot be decoded."""


def decode(data: bytes, reduce: int = 1) -> np.ndarray:
    """PNG or JPEG bytes to RGB uint8 [H, W, 3]. Ignores EXIF rotation, as Pillow does.

    `reduce` 2, 4 or 8: to [ceil(H / reduce), ceil(W / reduce), 3], for JPEG, whose transform gives
    a smaller image for less work.
    """
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | _REDUCED[reduce]
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # more pixels than OpenCV allows, such as a damaged header asks for
        image = None
    if image is None:
        raise CorruptImage(f"{len(data)} bytes are not a readable PNG or JPEG image")
    return image


def resize(image: np.ndarray, size: tuple[int, int], method: str = "linear") -> np.ndarray:
    """uint8 [H, W, C] to [size[0], size[1], C], aspect not kept.

    `method`: "linear" or "cubic" (OpenCV's, fast, and area once an axis shrinks by more than 1.5),
    "area", or "pillow_linear", "pillow_cubic": Pillow's antialiased kernels, slower, for
    parity with a model whose own preprocessing is Pillow's; "oversampled": as linear, but
    antialiased two to three times as fast as by area, and as close to Pillow.
    """
    if image.shape[:2] == tuple(size):
        return image
    if method == OVERSAMPLED:
        return _oversampled(image, size)
    if method.startswith("pillow_"):
        return _pillow_resize(image, size, method)
    if method not in _METHODS:
        raise UserError(
            f"interpolation {method!r} is unknown; use one of {sorted(_METHODS)},"
            " 'oversampled', 'pillow_linear' or 'pillow_cubic'"
        )
    shrink = max(image.shape[0] / size[0], image.shape[1] / size[1])
    flag = cv2.INTER_AREA if shrink > _ALIASING else _METHODS[method]
    return cv2.resize(image, (size[1], size[0]), interpolation=flag)


def _oversampled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Linear to m times the size, m a power of two, then the means of m x m pixels."""
    shrink = max(image.shape[0] / size[0], image.shape[1] / size[1])
    times = 1
    while shrink > _ALIASING * times:
        times *= 2
    larger = (size[1] * times, size[0] * times)
    image = cv2.resize(image, larger, interpolation=cv2.INTER_LINEAR)
    if times == 1:
        return image
    # Whole factors are OpenCV's fast case of area.
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def _pillow_resize(image: np.ndarray, size: tuple[int, int], method: str) -> np.ndarray:
    from PIL import Image

    filters = {"pillow_linear": Image.Resampling.BILINEAR, "pillow_cubic": Image.Resampling.BICUBIC}
    if method not in filters:
        raise UserError(f"interpolation {method!r} is unknown; use one of {sorted(filters)}")
    resized = Image.fromarray(image).resize((size[1], size[0]), filters[method])
    return np.asarray(resized)


def normalize(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 [..., H, W, 3] to float32 `(x / 255 - mean) / std`, for use on the host.

    Works on rows of W * 3 values, not on triples: seven times faster in NumPy.
    """
    width = images.shape[-2]
    scale = np.tile(1 / (255 * np.asarray(std, np.float32)), width)
    shift = np.tile(np.asarray(mean, np.float32) / np.asarray(std, np.float32), width)
    rows = images.reshape(*images.shape[:-2], width * 3)
    out = np.empty(rows.shape, np.float32)
    for source, target in zip(rows, out, strict=True):  # one image at a time stays in cache
        target[...] = source
        target *= scale
        target -= shift
    return out.reshape(images.shape)


@dataclass(frozen=True)
class Crop:
    """A window in pixels; `height` x `width` of the image from row `top`, column `left`."""

    top: int
    left: int
    height: int
    width: int

    def image(self, image: np.ndarray) -> np.ndarray:
        """The window of [H, W, ...], a view."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]

    def scaled(self, scale: tuple[float, float]) -> "Crop":
        """The same window on a copy `scale` (rows, columns) as large, to the nearest pixel."""
        top, bottom = _ends(self.top, self.height, scale[0])
        left, right = _ends(self.left, self.width, scale[1])
        return Crop(top, left, bottom - top, right - left)

    def boxes(self, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Boxes [M, 4] after the window is cut out and resized to `size` (rows, columns)."""
        scale = np.array([size[1] / self.width, size[0] / self.height] * 2, np.float32)
        offset = np.array([self.left, self.top] * 2, np.float32)
        limit = np.array([size[1], size[0]] * 2, np.float32)
        return np.clip((boxes - offset) * scale, 0, limit)


def _ends(start: int, length: int, scale: float) -> tuple[int, int]:
    stop = max(1, math.floor((start + length) * scale + 0.5))
    return min(math.floor(start * scale + 0.5), stop - 1), stop


def draw_crop(
    rng: np.random.Generator,
    shape: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Crop:
    """Inception's crop: a share `scale` of the area, log-uniform aspect `ratio` (width / height).

    After ten windows that do not fit, the largest centred one of an allowed aspect. Source:
    pytorch/vision, torchvision/transforms/transforms.py, RandomResizedCrop.get_params.
    """
    rows, columns = shape
    low, high = math.log(ratio[0]), math.log(ratio[1])
    draws = rng.random(4 * _CROP_TRIES).tolist()
    for i in range(0, 4 * _CROP_TRIES, 4):
        area = rows * columns * (scale[0] + draws[i] * (scale[1] - scale[0]))
        aspect = math.exp(low + draws[i + 1] * (high - low))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            top = int(draws[i + 2] * (rows - height + 1))
            return Crop(top, int(draws[i + 3] * (columns - width + 1)), height, width)
    height = min(rows, max(1, round(columns / ratio[0])))
    width = min(columns, max(1, round(rows * ratio[1])))
    return Crop((rows - height) // 2, (columns - width) // 2, height, width)


_FLIPS = {(True, False): 1, (False, True): 0, (True, True): -1}
_ROTATIONS = {
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


@dataclass(frozen=True)
class Turn:
    """Flips (left-right, then top-bottom) and then counter-clockwise quarter turns."""

    horizontal: bool = False
    vertical: bool = False
    quarters: int = 0

    def image(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, C]."""
        if self.horizontal or self.vertical:
            image = cv2.flip(image, _FLIPS[self.horizontal, self.vertical])
        return cv2.rotate(image, _ROTATIONS[self.quarters]) if self.quarters else image

    def boxes(self, boxes: np.ndarray, size: int) -> np.ndarray:
        """Boxes [M, 4] on a square image of `size` pixels."""
        left, top, right, bottom = boxes.T
        if self.horizontal:
            left, right = size - right, size - left
        if self.vertical:
            top, bottom = size - bottom, size - top
        for _ in range(self.quarters):
            left, top, right, bottom = top, size - right, bottom, size - left
        return np.stack([left, top, right, bottom], 1)

    def ways(self, text: str) -> str:
        """The text with "in the north-west" and the like turned along with the image.

        Only compass directions of the image itself: "in the north of Chile" and "north of Lima"
        say where the place is, which no flip changes.
        """
        return text if self == Turn() else _WAY.sub(self._way, text)

    def _way(self, found: re.Match[str]) -> str:
        words = found["way"].split("-")
        east, north = (sum(_STEPS[word][axis] for word in words) for axis in (0, 1))
        if self.horizontal:
            east = -east
        if self.vertical:
            north = -north
        for _ in range(self.quarters):
            east, north = -north, east
        turned = (word for word, step in _STEPS.items() if step in ((0, north), (east, 0)))
        return found["lead"] + "-".join(turned)


_STEPS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
_WAY = re.compile(
    r"(?P<lead>\b[Ii]n the )"
    r"(?P<way>(?:north|south)(?:-(?:east|west))?|east|west)\b(?!-| of )"
)


@dataclass(frozen=True)
class Augmentation:
    """Random crop, flips and quarter turns, and the resize to `size` x `size`.

    Without a `crop_scale` the whole image is resized, its aspect not kept, as in evaluation.
    decode: at which size an encoded image is decoded, see `decoding.look`.
    """

    size: int
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_horizontal: bool = False
    flip_vertical: bool = False
    rotate: bool = False
    interpolation: str = "linear"
    decode: str = "full"

    def draw(self, rng: np.random.Generator, shape: tuple[int, int]) -> "View":
        """What is to be done to an image of `shape` (rows, columns), and to what describes it."""
        crop = Crop(0, 0, *shape)
        if self.crop_scale is not None:
            crop = draw_crop(rng, shape, self.crop_scale, self.crop_ratio)
        horizontal, vertical, quarters = rng.random(3).tolist()
        turn = Turn(
            horizontal=self.flip_horizontal and horizontal < 0.5,
            vertical=self.flip_vertical and vertical < 0.5,
            quarters=int(quarters * 4) if self.rotate else 0,
        )
        return View(crop, turn, self.size, self.interpolation)


@dataclass(frozen=True)
class View:
    """A crop, resized to `size` x `size`, then turned."""

    crop: Crop
    turn: Turn
    size: int
    interpolation: str = "linear"

    def image(self, image: np.ndarray, scale: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
        """uint8 [H, W, 3] -> uint8 [size, size, 3].

        scale: rows and columns of `image` to those of the picture that the view was drawn for.
        """
        window = self.crop.scaled(scale).image(image)
        sized = resize(window, (self.size, self.size), self.interpolation)
        return self.turn.image(sized)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes float32 [M, 4] (xmin, ymin, xmax, ymax; pixel edges), as many, clipped to the view.

        See `keep_visible`.
        """
        return self.turn.boxes(self.crop.boxes(boxes, (self.size, self.size)), self.size)


def keep_visible(
    boxes: np.ndarray, phrases: Sequence[str], *, min_size: float = 1.0
) -> tuple[np.ndarray, list[str]]:
    """Drops the boxes [M, 4] narrower or lower than `min_size` pixels, with their phrases."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    kept = np.flatnonzero((sizes >= min_size).all(1)).tolist()
    return boxes[kept], [phrases[i] for i in kept]


def check_location(*, lon: float, lat: float) -> None:
    """Raises UserError unless lon and lat are degrees in range (NaN is not)."""
    if not -90 <= lat <= 90:
        hint = "; are lon and lat swapped?" if -90 <= lon <= 90 < abs(lat) <= 180 else ""
        raise UserError(f"lat={lat} is outside [-90, 90] degrees{hint}")
    if not -180 <= lon <= 180:
        raise UserError(f"lon={lon} is outside [-180, 180] degrees; subtract 360 if it is 0-360")


def jitter_location(
    rng: np.random.Generator, *, lon: float, lat: float, degrees: float, symmetric: bool = True
) -> tuple[float, float]:
    """Moves (lon, lat) by up to `degrees` on each axis; lat is clamped, lon wraps at 180.

    Not symmetric: U(0, degrees), a bias to the north-east, as SatCLIP does with 0.01 degrees
    (microsoft/satclip, satclip/datasets/s2geo.py).
    """
    east, north = rng.random(2).tolist()
    if symmetric:
        east, north = 2 * east - 1, 2 * north - 1
    lon, lat = lon + degrees * east, lat + degrees * north
    return (lon + 180) % 360 - 180, min(max(lat, -90.0), 90.0)
