"""The picture of a segmentation for people: the image, and its labels over it, with a legend."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from graft_jax.map import classes
from graft_jax.map.quicklook import legend
from graft_jax.segment.labels import Picture
from rsvl_jax.rasters.scene import shrunk
from rsvl_jax.storage import replace_file

_SIDE = 900  # pixels of a panel's longer side, at most
_INCHES = 4.2
_OPAQUE = 0.55  # share of a class's colour in the overlay


def write(
    path: str,
    picture: Picture,
    labels: np.ndarray,
    names: Sequence[str],
    table: classes.Colours,
    title: str,
) -> None:
    """labels uint8 [H, W] of the picture, names and colours of their classes -> a PNG."""
    height, width = shrunk(labels.shape[0], labels.shape[1], _SIDE)
    image = cv2.resize(picture.pixels, (width, height), interpolation=cv2.INTER_AREA)
    small = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    colours = np.full((256, 3), 184, np.float32)
    for number, colour in table.items():
        if number != classes.NO_CLASS:
            colours[number] = colour[:3]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]  # hue is the labels' alone
    over = (1 - _OPAQUE) * grey + _OPAQUE * colours[small]
    longest = max(height, width)
    size = 2 * (_INCHES * width / longest + 0.25) + 1.6, _INCHES * height / longest + 0.35
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine())
        axes = figure.subplots(1, 2)
        panels = ((image, title), (over.astype(np.uint8), "most similar"))
        for ax, (pixels, words) in zip(axes, panels, strict=True):
            ax.imshow(pixels)
            ax.set_title(words, loc="left")
            ax.axis("off")
        legend(axes[1], labels, names, table)
        with replace_file(path) as file:
            figure.savefig(file, format="png", dpi=130)
