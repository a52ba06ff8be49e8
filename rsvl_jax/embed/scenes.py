"""Windows of georeferenced scenes."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rsvl_jax.embed.files import identity
from rsvl_jax.embed.items import IMAGES, Input, Item, Row, Skip
from rsvl_jax.errors import UserError
from rsvl_jax.rasters import footprints
from rsvl_jax.rasters.scene import Scene, View, gdal, open_scene
from rsvl_jax.rasters.windows import starts

COLUMNS = ("lon", "lat", "row", "column", "bbox", "geometry")


def scenes(
    paths: Sequence[str], view: View, *, size: int, overlap: float, min_valid: float
) -> Input:
    """Windows of `size` pixels that overlap by a share of their side, row by row, scene by scene.

    A scene that cannot serve is one item that is skipped. Raises UserError for an overlap or a
    share of valid pixels that cannot be.
    """
    if not 0 <= overlap <= 0.9:
        raise UserError(f"--overlap={overlap:g} is not from 0 to 0.9")
    if not 0 <= min_valid <= 1:
        raise UserError(f"--min_valid={min_valid:g} is a share of pixels, from 0 to 1")
    stride = max(1, round(size * (1 - overlap)))

    def items(start: int) -> Iterator[Item]:
        number = 0
        with gdal():
            for path in paths:
                try:
                    with open_scene(path, view) as scene:
                        corners = _corners(scene, size, stride)
                        for row, column in corners[max(start - number, 0) :]:
                            yield _item(scene, row, column, size, min_valid)
                except UserError as error:
                    corners = [(0, 0)]
                    if start <= number:
                        yield _failed(path, path, Skip("a scene that cannot be used", str(error)))
                number += len(corners)

    return Input(IMAGES, COLUMNS, items, identity(paths))


def _corners(scene: Scene, size: int, stride: int) -> list[tuple[int, int]]:
    if min(scene.height, scene.width) < size:
        raise UserError(
            f"{scene.name!r} has {scene.width} x {scene.height} pixels, the model sees "
            f"{size} x {size}: give a larger one, or a finer --gsd"
        )
    rows, columns = (starts(length, size, stride) for length in (scene.height, scene.width))
    return [(int(row), int(column)) for row in rows for column in columns]


def _item(scene: Scene, row: int, column: int, size: int, min_valid: float) -> Item:
    """The window, read at once: a raster serves the one thread that opened it."""
    name = f"{os.path.basename(scene.name.split(',')[0])}/r{row}c{column}"
    try:
        pixels, valid = scene.read(row, column, size)
    except UserError as error:
        return _failed(name, scene.name, Skip("a window that cannot be read", str(error)))
    if valid.mean() < min_valid or not valid.any():
        return _failed(name, scene.name, Skip("too few valid pixels", ""))
    ground = footprints.Ground(scene.crs, scene.transform)
    ring = ground.ring(row, column, size)
    if not np.isfinite(ring).all():
        return _failed(name, scene.name, Skip("not on the Earth", ""))
    lon, lat = ground.point(row + size / 2, column + size / 2)
    found: Row = {"lon": lon, "lat": lat, "row": row, "column": column}
    found |= {"bbox": footprints.box(ring), "geometry": footprints.well_known_binary(ring).hex()}
    return Item(name, scene.name, lambda: (pixels, found))


def _failed(name: str, source: str, problem: Skip) -> Item:
    def load() -> tuple[Any, Row]:
        raise problem

    return Item(name, source, load)
