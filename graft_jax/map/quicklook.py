"""A picture of a map for people: the scene and what was found, with legend and scale."""

import os
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import rasterio
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle

from graft_jax.map import classes
from graft_jax.map.geotiff import NO_CLASS
from graft_jax.map.settings import Settings
from rsvl_jax.rasters.scene import Scene, shrunk
from rsvl_jax.storage import replace_file

_SIDE = 900  # pixels of a panel's longer side, at most
_INCHES = 4.2  # of a panel's longer side
_MOST = 8  # maps that are drawn
_ACROSS = 3
_GREY = "#b8b8b8"


def write(path: str, output: str, scene: Scene, settings: Settings) -> None:
    """Draws the map at `output` beside its scene into a PNG."""
    with rasterio.open(output) as file:
        bands = list(range(1, min(file.count, _MOST) + 1))
        shape = shrunk(file.height, file.width, _SIDE)
        values = file.read(bands, out_shape=(len(bands), *shape))
    panels = 1 + len(bands)
    across = min(panels, _ACROSS)
    down = -(-panels // across)
    longest = max(shape)
    width, height = (_INCHES * side / longest for side in shape[::-1])
    # Inches for the names of the classes at the right, or for the scales of cosines below.
    right, below = (1.5, 0.3) if settings.kind == "class" else (0.0, 0.75)
    size = across * (width + 0.25) + right, down * (height + below) + 0.35
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.09))
        axes = figure.subplots(down, across, squeeze=False).ravel()
        _scene(axes[0], scene, settings)
        for ax, band, query in zip(axes[1:], values, settings.queries, strict=False):
            if settings.kind == "class":
                _classes(ax, band, settings)
            else:
                _similarity(ax, band, query)
        for ax in axes[panels:]:
            ax.axis("off")
        figure.supxlabel(
            _caption(scene, settings, len(bands)), color="#555555", size=8, ha="left", x=0
        )
        with replace_file(path) as picture:
            figure.savefig(picture, format="png", dpi=130)


def _scene(ax: Any, scene: Scene, settings: Settings) -> None:
    pixels, valid = scene.preview(_SIDE)
    ax.imshow(np.where(valid[..., None], pixels, 184))
    first, *others = (os.path.basename(part) for part in settings.input.split(","))
    ax.set_title(f"{first} and {len(others)} more" if others else first, loc="left")
    _bare(ax)
    metres = scene.ground[0] * scene.width / pixels.shape[1]
    _scale_bar(ax, pixels.shape, metres)


def _similarity(ax: Any, band: np.ndarray, query: str) -> None:
    """One query; its own scale, since cosines with different texts are not comparable."""
    low, high = np.nanpercentile(band, (1, 99)) if np.isfinite(band).any() else (0.0, 1.0)
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=_GREY)
    drawn = ax.imshow(band, cmap=colours, vmin=low, vmax=max(high, low + 1e-6))
    ax.set_title(query, loc="left")
    _bare(ax)
    bar = ax.figure.colorbar(
        drawn, cax=ax.inset_axes((0, -0.05, 0.6, 0.025)), orientation="horizontal"
    )
    bar.outline.set_visible(False)
    ax.text(0.62, -0.038, "cosine", transform=ax.transAxes, va="center")


def _classes(ax: Any, band: np.ndarray, settings: Settings) -> None:
    asked = settings.queries, settings.threshold
    rgb = np.full((256, 3), 184, np.uint8)
    table = classes.colours(*asked)
    for number, colour in table.items():
        if number != NO_CLASS:
            rgb[number] = colour[:3]
    ax.imshow(rgb[band])
    ax.set_title("most similar", loc="left")
    _bare(ax)
    legend(ax, band, classes.names(*asked), table)


def legend(ax: Any, band: np.ndarray, names: Sequence[str], table: classes.Colours) -> None:
    """Names of classes uint8 [H, W] with their shares of what is seen, right of the axes."""
    seen = max(int((band != NO_CLASS).sum()), 1)
    entries = [
        Patch(color=_hex(table[n]), label=f"{name}  {(band == n).sum() / seen:.0%}")
        for n, name in enumerate(names)
    ]
    if (band == NO_CLASS).any():
        entries.append(Patch(color=_GREY, label="no data"))
    ax.legend(
        handles=entries, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, borderaxespad=0
    )


def _hex(colour: tuple[int, ...]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour[:3])


def _bare(ax: Any) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def _scale_bar(ax: Any, shape: tuple[int, ...], metres: float) -> None:
    """A bar of a round length, about a quarter of the width, in the lower left corner."""
    length = round_length(metres * shape[1] / 4)
    pixels, thick = length / metres, max(3.0, shape[0] / 120)
    x, y = shape[1] * 0.04, shape[0] * 0.96 - thick
    for grow, colour in ((1.5, "black"), (0.0, "white")):
        box = (x - grow, y - grow), pixels + 2 * grow, thick + 2 * grow
        ax.add_patch(Rectangle(*box, color=colour, linewidth=0))
    words = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    text = ax.text(x + pixels / 2, y - 2 * thick, words, color="white", ha="center", va="bottom")
    text.set_bbox({"facecolor": "black", "alpha": 0.55, "pad": 1.5, "linewidth": 0})


def round_length(metres: float) -> float:
    """The greatest of 1, 2, 5, 10, ... that is not above a length."""
    power = 10.0 ** np.floor(np.log10(metres))
    return float(max(step * power for step in (1, 2, 5) if step * power <= metres * (1 + 1e-9)))


def _caption(scene: Scene, settings: Settings, shown: int) -> str:
    code = scene.crs.to_epsg()
    crs = f"EPSG:{code}" if code else "its own CRS"
    side = scene.ground[0]
    metres = f"{side:,.0f}" if side >= 1000 else f"{side:.4g}"
    parts = [f"{scene.width:,} x {scene.height:,} pixels of {metres} m", crs]
    if shown < len(settings.queries) and settings.kind == "similarity":
        parts.append(f"first {shown} of {len(settings.queries)} queries")
    return " · ".join(parts)
