"""Maps of similarity to a text beside a raster of what is truly there."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluation import density, prompts, scoring
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.features import extract
from rsvl_jax.evaluation.vectors import normalize
from rsvl_jax.rasters.windows import starts

_METRICS = ("pearson", "spearman")
_PART = 256  # windows whose patch tokens are in memory at a time
_CELL = 16  # patches a side of a cell


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: query (what the truth is the density of), scene and truth (files of the folder),
    band (of the truth, from 1), cell (patches a side that are averaged), gsd (m a pixel that the
    scene is shown at), prompts."""
    query = spec.options.get("query")
    if not query:
        raise UserError(f"task {spec.name!r} needs a query, such as query = 'farmland'")
    cell = int(spec.options.get("cell", _CELL))
    card = _card(subject, spec, query, cell)
    if subject.encoders.texts is None:
        return scoring.not_applicable(card, _METRICS, "the model has no text encoder")
    asked = prompts.load([query], prompts=spec.options.get("prompts", "graft"), names="raw")
    shown, truth = _rasters(subject, spec, prompts.vectors(asked, subject.texts))
    found = density.correlation(shown, truth, cell, seed=subject.seed)
    card = replace(
        card,
        n=found.cells,
        interval_method="bootstrap of squares of 4 x 4 cells",
        protocol={**card.protocol, "class_vector": asked.describe(), "prompts": list(asked.texts)},
    )
    values = (found.pearson, found.pearson_interval), (found.spearman, found.spearman_interval)
    return [
        replace(card, metric=metric, value=value, interval=interval)
        for metric, (value, interval) in zip(_METRICS, values, strict=True)
    ]


def _card(subject: Subject, spec: Spec, query: str, cell: int) -> Card:
    files = [_file(spec, "scene"), _file(spec, "truth")]
    return Card(
        task=f"{spec.set}/density/{query}",
        metric="",
        title=f"{spec.set}: density of {query}",
        unit="fraction",
        dataset=spec.set,
        split="all",
        split_fingerprint=_fingerprint(files),
        protocol={
            **subject.encoders.protocol,
            "image": "windows of the model's size side by side, at the scene's resolution",
            "map": "cosine of patch and text",
            "cells": f"means over {cell} x {cell} patches, those less than half known left out",
            "truth": f"band {int(spec.options.get('band', 1))}, mean over the ground of a patch",
            "gsd": spec.options.get("gsd"),
        },
        seed=subject.seed,
        provenance=subject.provenance,
    )


def _file(spec: Spec, which: str) -> str:
    path = os.path.join(spec.data, str(spec.options.get(which, f"{which}.tif")))
    if not os.path.isfile(path):
        raise UserError(f"task {spec.name!r}: no {which} {path!r}: put it there, or name it")
    return path


def _fingerprint(paths: list[str]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _rasters(subject: Subject, spec: Spec, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines with the text and the truth, float [h, w] a patch each, NaN where unknown."""
    from rsvl_jax.rasters.scene import View, open_scene  # rasterio is in the extra `geo`

    gsd = spec.options.get("gsd")
    with open_scene(_file(spec, "scene"), View(gsd=None if gsd is None else float(gsd))) as scene:
        shown, patch = _similarity(subject, scene, text)
        truth = _aligned(
            _file(spec, "truth"), int(spec.options.get("band", 1)), scene, patch, shown
        )
    return shown, truth


def _similarity(subject: Subject, scene, text: np.ndarray) -> tuple[np.ndarray, int]:
    """Cosines of the whole patches, float64 [h, w], and the side of a patch in pixels."""
    side = subject.encoders.image_size
    assert side is not None
    if min(scene.height, scene.width) < side:
        raise UserError(
            f"{scene.name!r} has {scene.width} x {scene.height} pixels, the model sees {side} x "
            f"{side} at once: give a larger scene, or a finer gsd"
        )
    patch = _patch(subject, side)
    found = np.full((scene.height // patch, scene.width // patch), np.nan)
    for places in _places(found.shape, side // patch):
        windows = [scene.read(row * patch, column * patch, side) for row, column in places]
        tokens = _tokens(subject, np.stack([pixels for pixels, _ in windows]))
        for (row, column), (_, valid), own in zip(places, windows, tokens, strict=True):
            cosines = np.where(_known(valid, patch), normalize(own) @ text[0], np.nan)
            size = side // patch
            found[row : row + size, column : column + size] = cosines.reshape(size, size)
    return found, patch


def _patch(subject: Subject, side: int) -> int:
    """Side of a patch, in pixels."""
    image = jax.ShapeDtypeStruct((1, side, side, 3), np.uint8)
    tokens = jax.eval_shape(subject.encoders.images, image)["text_patches"].shape[1]
    return side // seg.grid_of(tokens, (side, side))[0]


def _places(shape: tuple[int, ...], size: int) -> Iterator[list[tuple[int, int]]]:
    """Corners of the windows in patches, some at a time."""
    rows, columns = (starts(length, size, size).tolist() for length in shape)
    every = [(row, column) for row in rows for column in columns]
    for start in range(0, len(every), _PART):
        yield every[start : start + _PART]


def _known(valid: np.ndarray, patch: int) -> np.ndarray:
    """Patches that are valid for the greater part, bool [N]."""
    cells = len(valid) // patch
    return (valid.reshape(cells, patch, cells, patch).mean(axis=(1, 3)) > 0.5).reshape(-1)


def _tokens(subject: Subject, images: np.ndarray) -> np.ndarray:
    def encode(pixels):
        return {"text_patches": subject.encoders.images(pixels)["text_patches"]}

    found = extract(encode, images, batch_size=subject.batch_size, mesh=subject.mesh)
    return found["text_patches"]


def _aligned(path: str, band: int, scene, patch: int, like: np.ndarray) -> np.ndarray:
    """A band of the truth as means over the scene's patches, float64 [h, w], NaN where unknown."""
    import rasterio
    from rasterio.warp import Resampling, reproject

    found = np.full(like.shape, np.nan)
    try:
        with rasterio.open(path) as file:
            if file.crs is None or not 1 <= band <= file.count:
                raise UserError(
                    f"{path!r} has {file.count} bands and the CRS {file.crs}: the truth needs band "
                    f"{band} and a CRS"
                )
            values = file.read(band, masked=True).astype(np.float64).filled(np.nan)
            reproject(
                values,
                found,
                src_transform=file.transform,
                src_crs=file.crs,
                src_nodata=np.nan,
                dst_transform=scene.transform @ scene.transform.scale(patch),
                dst_crs=scene.crs,
                dst_nodata=np.nan,
                resampling=Resampling.average,
            )
    except rasterio.errors.RasterioError as error:
        raise UserError(f"the truth {path!r} cannot be read: {error}") from error
    if not np.isfinite(found).any():
        raise UserError(f"the truth {path!r} and the scene {scene.name!r} do not overlap")
    return found
