"""The image that is asked about, in memory."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft_jax.segment import run as pictures
from graft_jax.segment.labels import Picture
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.scene import View, open_scene

_MOST = 64 * 2**20  # pixels
_RASTERS = (".tif", ".tiff", ".vrt", ".jp2")


@dataclass(frozen=True)
class Looked:
    """An image in memory, the side of a pixel in metres where that is known, and its place on
    Earth (CRS and transform) where it has one."""

    picture: Picture
    metres: float | None
    crs: Any = None
    transform: Any = None


def read(path: str, view: View) -> Looked:
    """A picture or a scene in memory. Raises UserError for what cannot be read, or is too large."""
    if os.path.splitext(path)[1].lower() not in _RASTERS and "," not in path:
        return Looked(pictures.read(path), view.gsd)
    with open_scene(path, view) as scene:
        if scene.height * scene.width > _MOST:
            raise UserError(
                f"{path!r} has {scene.height} x {scene.width} pixels, too many to ask about: cut "
                "a part out of it, or give a coarser --gsd"
            )
        pixels, valid = scene.read(0, 0, scene.height, scene.width)
        metres = float(np.sqrt(scene.ground[0] * scene.ground[1]))
        return Looked(Picture(pixels, valid), metres, scene.crs, scene.transform)
