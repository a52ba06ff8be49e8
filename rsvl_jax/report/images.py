"""Pictures inside the page: arrays as data URIs."""

import base64

import cv2
import numpy as np

from rsvl_jax.report.markup import Safe, tag

MAX_SIDE = 128
_QUALITY = 85


def picture(pixels: np.ndarray, alt: str) -> Safe:
    """An image element of uint8 [H,W,3] RGB, at most MAX_SIDE on its long side."""
    height, width = pixels.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return element(pixels, alt)


def element(pixels: np.ndarray, alt: str, quality: int = _QUALITY) -> Safe:
    """An image element of uint8 [H,W,3] RGB at its own size."""
    height, width = pixels.shape[:2]
    uri = data_uri(pixels, quality)
    return tag("img", src=uri, alt=alt, width=width, height=height)


def data_uri(pixels: np.ndarray, quality: int = _QUALITY) -> str:
    """uint8 [H,W,3] RGB as a JPEG data URI, colours at full resolution."""
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    ok, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), settings)
    if not ok:
        raise ValueError(f"no JPEG of an array of shape {pixels.shape} and type {pixels.dtype}")
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
