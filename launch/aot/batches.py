"""The batch of a config's step without its data: a made-up record through the real pipeline.

So shapes, types and names are those that `main` would feed. What depends on the data in a run is
taken from the config: the size of the vocabulary, and the width of cached embeddings.
"""

import io
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from PIL import Image

import flavars_jax.inputs
import graft_jax.inputs
from flavars_jax.settings import Settings
from rsvl_jax.data.tokenizer import CLS, MASK, PAD, SEP
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.parallel.sharding import batch_sharding

Tree = Any
MANIFEST = {"fingerprint": "made up"}  # what batches are told of their data set


class Records:
    """A source that holds one record, many times."""

    def __init__(self, record: Mapping[str, Any]):
        self._record = dict(record)

    def __len__(self) -> int:
        return 1 << 10

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self._record)


class Tokenizer:
    """Stands for a tokenizer with a vocabulary of this size: every text is as long as it can be."""

    pad_id, mask_id, first_id = PAD, MASK, MASK + 1

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    def encode(self, text: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 [T], mask bool [T]), as `SentencePieceTokenizer.encode`."""
        ids = np.full(length, self.first_id, np.int32)
        ids[0], ids[-1] = CLS, SEP
        return ids, np.ones(length, bool)

    def word_ids(self, ids: np.ndarray) -> np.ndarray:
        """int32 [T], each token a word of its own."""
        return np.where(ids <= MASK, -1, np.arange(len(ids))).astype(np.int32)


class Embeddings:
    """Stands for a cache of ground embeddings, float16 [P, E] a tile."""

    def __init__(self, photos: int, width: int):
        self._photos, self._width = photos, width

    def of_tile(self, tile: int) -> tuple[np.ndarray, np.ndarray]:
        """(embeddings, whether there is one)."""
        return np.zeros((self._photos, self._width), np.float16), np.ones(self._photos, bool)


def flavars(config: ConfigDict, settings: Settings, mesh: Mesh) -> Tree:
    """The batch of FLAVARS as ShapeDtypeStructs on the mesh."""
    sizes = flavars_jax.inputs.stream_sizes(config)
    small = _small(config, config.data.batch_size // math.gcd(*sizes.values()))
    side = settings.image.image_size
    record = {
        "id": "0",
        "image": _png(side),
        "captions": ["a tile"],
        "lon": 0.0,
        "lat": 0.0,
        "phrases": ["a tile"],
        "boxes": np.array([[0, 0, side, side]], np.float32),
    }
    tokenizer: Any = Tokenizer(settings.text.vocab_size)
    inputs = flavars_jax.inputs.Inputs(MANIFEST, Records(record), tokenizer, "", "")
    batches = inputs.batches(small, settings, make_mesh(devices=jax.local_devices()[:1]), 0)
    return _abstract(batches, config.data.batch_size // small.data.batch_size, mesh)


def graft(config: ConfigDict, mesh: Mesh) -> Tree:
    """The batch of a student of GRAFT as ShapeDtypeStructs on the mesh."""
    small, photos, side = _small(config, 1), config.data.photos, config.model.image.size
    record = {
        "id": "0",
        "image": _png(side),
        "footprint": np.zeros(4, np.float32),
        "photo_ids": [str(photo) for photo in range(photos)],
        "photo_xy": np.full((photos, 2), side / 2, np.float32),
        "photos": [_png(side)] * photos,
    }
    inside = config.data.ground == "step"
    cache: Any = None if inside else Embeddings(photos, config.model.embed_dim)
    inputs = graft_jax.inputs.Inputs(MANIFEST, Records(record), "", "")
    batches = inputs.batches(small, make_mesh(devices=jax.local_devices()[:1]), 0, cache)
    return _abstract(batches, config.data.batch_size, mesh)


def _small(config: ConfigDict, batch_size: int) -> ConfigDict:
    """The config with this batch, read in this process and not kept, texts at full length."""
    small = config.copy_and_resolve_references()
    with small.unlocked():
        small.data.update(batch_size=batch_size, workers=0, threads=1, cache="none")
        small.data.text_buckets = ()
    return small


def _png(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "PNG")
    return file.getvalue()


def _abstract(batches: Any, times: int, mesh: Mesh) -> Tree:
    """The first of the batches, with `times` as many rows."""
    try:
        batch = next(batches)
    finally:
        batches.close()
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (leaf.shape[0] * times, *leaf.shape[1:]), leaf.dtype, sharding=batch_sharding(mesh)
        ),
        batch,
    )
