"""From a scene and queries to a GeoTIFF and its quicklook."""

import os
import sys
import time
from dataclasses import dataclass

import numpy as np
from rasterio.windows import Window
from tqdm import tqdm

import rsvl_jax
from graft_jax.map import geotiff, queries, quicklook
from graft_jax.map.colours import class_colours
from graft_jax.map.scene import Scene, open_scene
from graft_jax.map.settings import Settings
from graft_jax.map.similarity import Block, Scan, blocks
from graft_jax.towers import TextImageModel


@dataclass(frozen=True)
class Made:
    """What was made: the two files, how many windows the model saw, and in how many seconds."""

    output: str
    quicklook: str
    windows: int
    seconds: float

    def __str__(self) -> str:
        rate = self.windows / max(self.seconds, 1e-9)
        return (
            f"{self.output} and {self.quicklook}: {self.windows:,} windows in "
            f"{self.seconds:.1f} s, {rate:,.1f} images/s"
        )


def make_map(settings: Settings, model: TextImageModel) -> Made:
    """Writes the map, then its quicklook beside it under the same name with .png.

    Similarity: a float32 band a query, NaN where the scene has no data. Class: uint8, the number
    of the most similar query from 0, 255 where the scene has no data.
    """
    start = time.perf_counter()
    with open_scene(settings.input, settings.view) as scene:
        vectors = queries.vectors(model, settings.queries, settings.templates)
        scan = Scan(vectors, settings.level, settings.overlap, settings.batch_size)
        windows = len(scan.layout(model, scene))
        raster = _raster(settings, model, scene)
        with (
            geotiff.create(settings.output, raster) as file,
            tqdm(total=windows, unit="image", disable=None, file=sys.stderr) as bar,
        ):
            for block in blocks(model, scene, scan, done=bar.update):
                values = _classes(block) if settings.kind == "class" else block.scores
                height, width = values.shape[1:]
                file.write(values, window=Window(block.column, block.row, width, height))
        picture = os.path.splitext(settings.output)[0] + ".png"
        quicklook.write(picture, settings.output, scene, settings)
    return Made(settings.output, picture, windows, time.perf_counter() - start)


def _classes(block: Block) -> np.ndarray:
    """The query with the highest cosine, uint8 [1, h, w]; the first of equal ones."""
    unseen = np.isnan(block.scores[0])
    best = np.where(unseen, 0, block.scores).argmax(axis=0)
    return np.where(unseen, geotiff.NO_CLASS, best).astype(np.uint8)[None]


def _raster(settings: Settings, model: TextImageModel, scene: Scene) -> geotiff.Raster:
    classes = settings.kind == "class"
    return geotiff.Raster(
        crs=scene.crs,
        transform=scene.transform,
        width=scene.width,
        height=scene.height,
        names=[" | ".join(settings.queries)] if classes else settings.queries,
        tags=_tags(settings, model, scene),
        colours=class_colours(len(settings.queries)) if classes else None,
    )


def _tags(settings: Settings, model: TextImageModel, scene: Scene) -> dict[str, str]:
    """How the map came about, so that it can be made again."""
    found = {
        "software": f"rsvl-jax {rsvl_jax.__version__}, graft_jax.map",
        "source": ",".join(os.path.basename(part) for part in scene.name.split(",")),
        "kind": settings.kind,
        "level": settings.level,
        "templates": " | ".join(settings.templates),
        "model": model.fingerprint,
        "window": f"{model.image_size} pixels, overlap {settings.overlap:g}",
        "gsd": f"{scene.ground[0]:.6g} x {scene.ground[1]:.6g} m",
        "bands": ",".join(str(band) for band in scene.bands),
        "scale": "none" if scene.scale is None else "{:.9g},{:.9g}".format(*scene.scale),
    }
    what = "class" if settings.kind == "class" else "query"
    return found | {f"{what}_{n}": query for n, query in enumerate(settings.queries)}
