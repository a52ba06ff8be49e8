"""The picture of an answer: the image, and on it what each name in the question was found to be."""

from collections.abc import Mapping

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from rsvl_jax.storage import replace_file

_COLOURS = ("#e4572e", "#1f77b4", "#f2c14e", "#6a4c93", "#2a9d8f", "#d1495b")
_INK = 0.55


def write(
    path: str, pixels: np.ndarray, masks: Mapping[str, np.ndarray], question: str, answer: str
) -> None:
    """Writes a PNG. pixels uint8 [H,W,3]; masks: by name, bool [H,W]."""
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
