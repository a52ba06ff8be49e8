"""The TFDS builder of `earth_tiles`: real satellite tiles of the whole land, described in words."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from rsvl_jax.datasets.earth_tiles import places, rasters, tiles
from rsvl_jax.datasets.earth_tiles.captions import captions
from rsvl_jax.datasets.earth_tiles.phrases import phrases
from rsvl_jax.datasets.earth_tiles.scene import Scene, look
from rsvl_jax.datasets.earth_tiles.splits import SPLITS
from rsvl_jax.datasets.earth_tiles.tiles import Plan

_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 4)
_DESCRIPTION = """
Tiles of 64 x 64 pixels (7.4 km at the equator) cut from the Blue Marble mosaic (MODIS, NASA), each
with captions and grounded phrases made from MODIS land cover (MCD12C1, 2019), Koppen-Geiger
climate, Natural Earth countries and GeoNames cities. Splits are geographic blocks with a gap.
"""


@dataclass
class TilesConfig(tfds.core.BuilderConfig):
    """Which tiles: a plan by name, `full` or `mini`."""

    plan: str = "full"


class EarthTiles(tfds.core.GeneratorBasedBuilder):
    """See `_DESCRIPTION`; `rsvl_jax.datasets.load` says what a record holds."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        TilesConfig(name="full", description="Every tile.", plan="full"),
        TilesConfig(name="mini", description="A few hundred tiles, for tests.", plan="mini"),
    ]
    DEFAULT_CONFIG_NAME = "full"
    bar: tqdm | None = None  # of the tiles, while they are cut

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text()
        square = (tiles.SIZE, tiles.SIZE)
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "id": text,
                    "image": tfds.features.Image(shape=(*square, 3), encoding_format="png"),
                    "captions": tfds.features.Sequence(text),
                    "lon": np.float32,
                    "lat": np.float32,
                    "bbox": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "landcover": tfds.features.Tensor(shape=(17,), dtype=np.float32),
                    "label": np.int64,
                    "dominant": np.int64,
                    "mask": tfds.features.Image(shape=(*square, 1), encoding_format="png"),
                    "climate": text,
                    "country": text,
                    "continent": text,
                    "city": text,
                    "phrases": tfds.features.Sequence(text),
                    "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
                    "block": np.int64,
                    "row": np.int64,
                    "col": np.int64,
                }
            ),
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # everything is read from installed packages
        loaded = rasters.load()
        plans: dict[str, Callable[..., Plan]] = {"full": tiles.full, "mini": tiles.mini}
        plan = plans[self.builder_config.plan](loaded)
        self.bar = tqdm(total=len(plan), desc="cutting tiles", unit="tile", smoothing=0)
        return {
            name: self._generate_examples(loaded, plan.take(plan.split == index))
            for index, name in enumerate(SPLITS)
        }

    def _generate_examples(self, loaded, plan) -> Iterator[tuple[str, dict]]:
        gazetteer = places.load()
        for row, col, label, block in zip(plan.row, plan.col, plan.label, plan.block, strict=True):
            scene = look(loaded, gazetteer, int(row), int(col))
            record = _record(scene) | {"label": int(label), "block": int(block)}
            yield record["id"], record
            if self.bar is not None:
                self.bar.update()


def _record(scene: Scene) -> dict:
    lon, lat = scene.centre
    names, boxes = phrases(scene)
    return {
        "id": f"r{scene.row:04d}c{scene.col:04d}",
        "image": _png(cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)),
        "captions": captions(scene),
        "lon": lon,
        "lat": lat,
        "bbox": np.array(tiles.bounds(scene.row, scene.col), np.float32),
        "landcover": scene.igbp,
        "dominant": int(scene.igbp.argmax()),
        "mask": _png(scene.landcover),
        "climate": scene.climate,
        "country": scene.countries[0].name if scene.countries else "",
        "continent": scene.continent,
        "city": scene.nearby.city.name,
        "phrases": names,
        "boxes": boxes,
        "row": scene.row,
        "col": scene.col,
    }


def _png(pixels: np.ndarray) -> io.BytesIO:
    """Encoded bytes, blue first: TFDS needs TensorFlow to encode arrays, but takes bytes as is."""
    return io.BytesIO(cv2.imencode(".png", pixels, _PNG)[1].tobytes())
