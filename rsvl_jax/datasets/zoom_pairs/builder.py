"""The TFDS builder of `zoom_pairs`."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from rsvl_jax.datasets.earth_tiles import places, rasters, tiles
from rsvl_jax.datasets.earth_tiles.captions import captions
from rsvl_jax.datasets.earth_tiles.classes import Kind, labels
from rsvl_jax.datasets.earth_tiles.rasters import PER_DEGREE, Rasters, window
from rsvl_jax.datasets.earth_tiles.scene import look
from rsvl_jax.datasets.earth_tiles.splits import SPLITS
from rsvl_jax.datasets.zoom_pairs import plan
from rsvl_jax.datasets.zoom_pairs.plan import TILE, VIEW, ZOOM, Views

SENSOR = "MODIS, Blue Marble mosaic"
METRES_PER_DEGREE = 111_195  # of latitude, on a sphere of 6,371 km
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 4)
_DESCRIPTION = """
Zoom pairs, not ground photos: coarse tiles of 32 x 32 pixels (30 km) cut from the Blue Marble
mosaic (MODIS, NASA), each with 16 fine views (7.4 km a pixel) of places inside it. Views have
captions made as those of earth_tiles; tiles have none. Splits are geographic blocks with a gap.
"""


@dataclass
class PairsConfig(tfds.core.BuilderConfig):
    """Which tiles: a plan by name, `full` or `mini`."""

    plan: str = "full"


class ZoomPairsBuilder(tfds.core.GeneratorBasedBuilder):
    """See `_DESCRIPTION`; `zoom_pairs.record.parse` says what a record holds."""

    name = "zoom_pairs"
    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [
        PairsConfig(name="full", description="Every tile.", plan="full"),
        PairsConfig(name="mini", description="A few tiles, for tests.", plan="mini"),
    ]
    DEFAULT_CONFIG_NAME = "full"
    bar: tqdm | None = None  # of the tiles, while they are cut

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=_DESCRIPTION, features=tfds.features.FeaturesDict(_features())
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager  # everything is read from installed packages
        loaded = rasters.load()
        chosen = {"full": plan.full, "mini": plan.mini}[self.builder_config.plan](loaded)
        cutter = Cutter(loaded)
        self.bar = tqdm(total=len(chosen), desc="cutting tiles", unit="tile", smoothing=0)
        return {
            name: self._generate_examples(cutter, chosen.take(chosen.split == index))
            for index, name in enumerate(SPLITS)
        }

    def _generate_examples(self, cutter, chosen) -> Iterator[tuple[str, dict]]:
        for row, col, label, block in zip(
            *(getattr(chosen, name).tolist() for name in ("row", "col", "label", "block")),
            strict=True,
        ):
            record = cutter.tile(row, col) | {"label": label, "block": block}
            yield record["id"], record
            if self.bar is not None:
                self.bar.update()


def _features() -> dict[str, Any]:
    """As `ground_satellite_pairs` has them, so that one reader serves both, and then more."""
    features = tfds.features
    text, bits = features.Text(), features.Encoding.BYTES
    double = {"dtype": np.float64, "encoding": bits}
    views = features.Image(shape=(VIEW, VIEW, 3), encoding_format="png")
    return {
        **dict.fromkeys(("id", "date", "sensor", "tower"), text),
        "image": features.Image(shape=(VIEW, VIEW, 3), encoding_format="png"),
        "gsd": np.float32,
        **dict.fromkeys(("lon", "lat"), features.Tensor(shape=(1,), **double)),
        "footprint": features.Tensor(shape=(4,), dtype=np.float32),
        **dict.fromkeys(("photo_ids", "photo_dates"), features.Sequence(text)),
        "photo_xy": features.Tensor(shape=(None, 2), dtype=np.float32),
        **dict.fromkeys(("photo_lon", "photo_lat"), features.Tensor(shape=(None,), **double)),
        "photos": features.Sequence(views),
        "embeddings": features.Tensor(shape=(None, None), dtype=np.float16, encoding=bits),
        "photo_captions": features.Sequence(text),
        "photo_caption_counts": features.Tensor(shape=(None,), dtype=np.int64),
        "photo_labels": features.Tensor(shape=(None,), dtype=np.int64),
        "mask": features.Image(shape=(VIEW, VIEW, 1), encoding_format="png"),
        **dict.fromkeys(("label", "block", "row", "col"), np.int64),
    }


class Cutter:
    """Cuts tiles and views from the rasters; a view that several tiles share is made once."""

    def __init__(self, loaded: Rasters):
        self._rasters, self._gazetteer = loaded, places.load()
        self._views: dict[tuple[int, int], tuple[bytes, list[str], int]] = {}

    def tile(self, row: int, col: int) -> dict[str, Any]:
        """The record of the tile at (row, col), as TFDS encodes it, but for label and block."""
        lon, lat = tiles.centre(row, col, TILE)
        views = plan.views(row, col)
        made = [self._view(r, c) for r, c in views.corners]
        captions = [text for _, texts, _ in made for text in texts]
        return {
            "id": f"z{row:04d}c{col:04d}",
            "image": _png(coarse(window(self._rasters.image, row, col, TILE))),
            "gsd": ZOOM * METRES_PER_DEGREE / PER_DEGREE,
            "lon": np.array([lon]),
            "lat": np.array([lat]),
            "footprint": np.array(tiles.bounds(row, col, TILE), np.float32),
            "date": "",
            "sensor": SENSOR,
            **_places(views),
            "photos": [io.BytesIO(data) for data, _, _ in made],
            "embeddings": np.zeros((0, 0), np.float16),
            "tower": "",
            "photo_captions": captions,
            "photo_caption_counts": np.array([len(texts) for _, texts, _ in made], np.int64),
            "photo_labels": np.array([label for _, _, label in made], np.int64),
            "mask": _png(most_frequent(window(self._rasters.cover, row, col, TILE))),
            "row": row,
            "col": col,
        }

    def _view(self, row: int, col: int) -> tuple[bytes, list[str], int]:
        """PNG bytes, captions and label."""
        if (row, col) not in self._views:
            scene = look(self._rasters, self._gazetteer, row, col, VIEW)
            label = int(labels(scene.shares[None])[0])
            self._views[row, col] = _png(scene.image).getvalue(), captions(scene), label
        return self._views[row, col]


def _places(views: Views) -> dict[str, Any]:
    centres = np.array([tiles.centre(row, col, VIEW) for row, col in views.corners])
    return {
        "photo_ids": [f"v{row:04d}c{col:04d}" for row, col in views.corners],
        "photo_xy": views.xy,
        "photo_lon": centres[:, 0],
        "photo_lat": centres[:, 1],
        "photo_dates": [""] * len(views.corners),
    }


def coarse(image: np.ndarray) -> np.ndarray:
    """RGB uint8 [H, W, 3] -> [H / ZOOM, W / ZOOM, 3]: the mean of each square of pixels."""
    height, width, _ = image.shape
    return cv2.resize(image, (width // ZOOM, height // ZOOM), interpolation=cv2.INTER_AREA)


def most_frequent(cover: np.ndarray) -> np.ndarray:
    """Kinds uint8 [H, W] -> [H / ZOOM, W / ZOOM]: the most frequent one, ties to the first."""
    height, width = (side // ZOOM for side in cover.shape)
    squares = cover.reshape(height, ZOOM, width, ZOOM)
    counts = np.stack([(squares == kind).sum((1, 3)) for kind in Kind], axis=-1)
    return counts.argmax(-1).astype(np.uint8)


def _png(pixels: np.ndarray) -> io.BytesIO:
    """Encoded bytes of RGB or grey pixels; TFDS takes bytes as they are."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return io.BytesIO(cv2.imencode(".png", pixels, _PNG)[1].tobytes())
