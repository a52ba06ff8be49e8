"""From a scene and queries to a GeoTIFF and its quicklook."""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rasterio.windows import Window
from tqdm import tqdm

import rsvl_jax
from graft_jax.map import classes, geotiff, queries, quicklook
from graft_jax.map.settings import Settings
from graft_jax.map.similarity import Scan, Scanner, blocks
from graft_jax.towers import TextImageModel
from rsvl_jax.rasters.scene import Scene, open_scene


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


def make_map(
    settings: Settings,
    model: TextImageModel,
    scanner: Scanner = blocks,
    tags: Mapping[str, str] | None = None,
) -> Made:
    """Writes the map, then its quicklook beside it under the same name with .png.

    Similarity: a float32 band a query, NaN where the scene has no data. Class: uint8, the number
    of the most similar query from 0, 255 where the scene has no data. `tags` are added to those
    that the file carries anyway.
    """
    start = time.perf_counter()
    with open_scene(settings.input, settings.view) as scene:
        vectors = queries.vectors(model, settings.queries, settings.templates)
        scan = Scan(vectors, settings.level, settings.overlap, settings.batch_size)
        windows = len(scan.layout(model, scene))
        raster = _raster(settings, scene, _tags(settings, model, scene) | dict(tags or {}))
        with (
            geotiff.create(settings.output, raster) as file,
            tqdm(total=windows, unit="image", disable=None, file=sys.stderr) as bar,
        ):
            for block in scanner(model, scene, scan, done=bar.update):
                values = block.scores
                if settings.kind == "class":
                    values = classes.most_similar(values, settings.threshold)[None]
                height, width = values.shape[1:]
                file.write(values, window=Window(block.column, block.row, width, height))
        picture = os.path.splitext(settings.output)[0] + ".png"
        quicklook.write(picture, settings.output, scene, settings)
    return Made(settings.output, picture, windows, time.perf_counter() - start)


def _raster(settings: Settings, scene: Scene, tags: Mapping[str, str]) -> geotiff.Raster:
    asked = settings.queries, settings.threshold
    by_class = settings.kind == "class"
    return geotiff.Raster(
        crs=scene.crs,
        transform=scene.transform,
        width=scene.width,
        height=scene.height,
        names=[" | ".join(classes.names(*asked))] if by_class else settings.queries,
        tags=tags,
        colours=classes.colours(*asked) if by_class else None,
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
        "scale": "none" if scene.scale is None else ",".join(f"{v:.9g}" for v in scene.scale),
    }
    if settings.kind == "similarity":
        return found | {f"query_{n}": query for n, query in enumerate(settings.queries)}
    found["threshold"] = "none" if settings.threshold is None else f"{settings.threshold:g}"
    named = classes.names(settings.queries, settings.threshold)
    return found | {f"class_{n}": name for n, name in enumerate(named)}
