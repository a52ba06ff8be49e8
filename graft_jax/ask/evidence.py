"""Where a model saw what the names in a question say: a picture, and a GeoTIFF of a scene."""

import os
from collections.abc import Mapping

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

import rsvl_jax
from graft_jax.ask.image import Looked
from graft_jax.map import geotiff
from rsvl_jax.storage import replace_file

_COLOURS = ("#e4572e", "#1f77b4", "#f2c14e", "#6a4c93", "#2a9d8f", "#d1495b")
_INK = 0.55


def paths(output: str) -> tuple[str, str]:
    """The picture, and the GeoTIFF beside it."""
    return output, os.path.splitext(output)[0] + ".tif"


def write(
    output: str, looked: Looked, masks: Mapping[str, np.ndarray], tags: Mapping[str, str]
) -> tuple[str, ...]:
    """Writes both and tells their paths; no GeoTIFF without a place on Earth or anything sought.

    masks: by name, bool [H,W]. tags: question, answer and more, kept in the GeoTIFF.
    """
    picture, raster = paths(output)
    _draw(picture, looked.picture.pixels, masks, tags["question"], tags["answer"])
    if looked.crs is None or not masks:
        return (picture,)
    _write_raster(raster, looked, masks, tags)
    return picture, raster


def _write_raster(
    path: str, looked: Looked, masks: Mapping[str, np.ndarray], tags: Mapping[str, str]
) -> None:
    """A band a name: 1 where it was seen, 0 elsewhere, NaN where the scene has no data."""
    valid = looked.picture.valid
    software = f"rsvl-jax {rsvl_jax.__version__}, graft_jax.ask"
    raster = geotiff.Raster(
        crs=looked.crs,
        transform=looked.transform,
        width=valid.shape[1],
        height=valid.shape[0],
        names=tuple(masks),
        tags={"software": software, **tags},
    )
    with geotiff.create(path, raster) as file:
        for band, mask in enumerate(masks.values(), start=1):
            file.write(np.where(valid, mask.astype(np.float32), np.nan).astype(np.float32), band)


def _draw(
    path: str, pixels: np.ndarray, masks: Mapping[str, np.ndarray], question: str, answer: str
) -> None:
    """A PNG. pixels uint8 [H,W,3]; masks: by name, bool [H,W]."""
    height, width = pixels.shape[:2]
    size = (7.0, max(2.0, 7.0 * height / width) + 0.9)
    figure, axis = plt.subplots(figsize=size, layout="constrained")
    axis.imshow(pixels)
    handles = []
    for (name, mask), colour in zip(masks.items(), _COLOURS * (1 + len(masks)), strict=False):
        layer = np.zeros((height, width, 4), np.float32)
        layer[mask] = (*matplotlib.colors.to_rgb(colour), _INK)
        axis.imshow(layer)
        share = f"{mask.mean():.1%} of the image"
        handles.append(Patch(color=colour, alpha=_INK, label=f"{name}, {share}"))
    axis.set_axis_off()
    axis.set_title(f"{question}\n{answer}", fontsize=11, loc="left")
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01), "ncols": 3}
    axis.legend(handles=handles, frameon=False, **place)
    with replace_file(path) as file:
        figure.savefig(file, format="png", dpi=120)
    plt.close(figure)
