"""The data of a GRAFT run: satellite tiles with their ground photos, and the batches of a step."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from graft_jax.ground import GroundCache, prepared
from rsvl_jax import datasets
from rsvl_jax.data import pairs, pipeline, prefetch
from rsvl_jax.data.cache import cache_from
from rsvl_jax.data.decoding import look
from rsvl_jax.data.pairs import Record, Sample
from rsvl_jax.data.transforms import Augmentation, CorruptImage, View
from rsvl_jax.datasets import registry
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.sharding import batch_sharding

STREAM = "pairs"
GROUND = ("cached", "step")


@dataclass(frozen=True)
class Inputs:
    """What a run reads, opened once.

    Attributes:
      manifest: of the data set.
      train: the training split.
    """

    manifest: dict[str, Any]
    train: pairs.Source
    name: str
    directory: str

    @classmethod
    def open(cls, config: ConfigDict) -> "Inputs":
        """Opens `config.data.name`, building it first where it is missing and can be built.

        Raises UserError for a data set that does not hold pairs.
        """
        name, directory = config.data.name, config.data.dir
        if registry.find(name).builder not in (registry.ZOOM_PAIRS, registry.PAIRS):
            raise UserError(
                f"data.name={name!r} holds no pairs of satellite tiles and ground photos: use "
                f"{registry.ZOOM_PAIRS!r}, or '{registry.PAIRS}/NAME' for pairs of your own"
            )
        datasets.ensure(name, directory)
        return cls(
            manifest=datasets.manifest(name, directory),
            train=datasets.load(name, directory, "train"),
            name=name,
            directory=directory,
        )

    def split(self, name: str) -> pairs.Source:
        """A split of the data set."""
        return datasets.load(self.name, self.directory, name)

    def artifact(self, filename: str) -> str:
        """Path of a file of the data set."""
        return datasets.artifact(self.name, self.directory, filename)

    def batches(
        self, config: ConfigDict, mesh: Mesh, start_step: int, cache: GroundCache | None
    ) -> prefetch.DevicePrefetch:
        """Batches {"pairs": ...} as global arrays on the mesh, from `start_step` on.

        cache: the embeddings of the training photos; None: the photos themselves are in the batch.
        """
        tiles = cache_from(self.train, config.data, self.manifest["fingerprint"])
        source = Numbered(tiles, cache)
        stream = pipeline.Stream(source, transform(config), config.data.batch_size)
        host = pipeline.mixed_batches(
            {STREAM: stream},
            seed=config.seed,
            start_step=start_step,
            workers=config.data.workers,
            threads=config.data.threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            skip_corrupt=config.data.skip_corrupt,
        )
        return prefetch.to_device(host, batch_sharding(mesh))


@dataclass(frozen=True)
class Numbered:
    """Records with their number, `tile`, and the cached embeddings of their photos.

    Photos that could not be embedded are not there: `good`, bool [P], tells which are.
    """

    source: pairs.Source
    cache: GroundCache | None = None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        record = {**self.source[index], "tile": index}
        if self.cache is None:
            return record | {"good": np.ones(len(record["photo_ids"]), bool)}
        embeddings, good = self.cache.of_tile(index)
        return record | {"embeddings": embeddings, "good": good}


@dataclass(frozen=True)
class PairTransform:
    """Record of `Numbered` to sample: a tile, and P of the photos that lie in what is seen of it.

    photos: P. photo_size: side of photos that are decoded, for a ground tower that runs in the
    step; None: their embeddings are in the record. shuffle: draw P of a tile's photos; off, take
    the first.

    The sample: image uint8 [H, W, 3]; tile_id int32; footprint float32 [4], of the whole tile, W,
    S, E, N degrees; photos float16 [P, E], or photo_image uint8 [P, h, w, 3]; photo_mask bool [P];
    photo_id int32 [P], equal for copies of one photo; photo_xy float32 [P, 2], pixels of the image,
    right and down from its left and top edge. Slots without a photo hold zeros.
    """

    augmentation: Augmentation
    photos: int
    photo_size: int | None = None
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.photos < 1:
            raise UserError(f"data.photos={self.photos}: draw at least one photo of each tile")

    def __call__(self, record: Record, rng: np.random.Generator) -> Sample:
        try:
            view, image = look(record["image"], self.augmentation, rng)
        except CorruptImage as error:
            raise CorruptImage(f"tile {record['id']!r}: {error}") from error
        xy, seen = moved(view, record["photo_xy"])
        slots = np.flatnonzero(seen & record["good"])
        if self.shuffle:
            slots = np.sort(rng.permutation(slots)[: self.photos])
        slots = slots[: self.photos]
        names = [record["photo_ids"][slot] for slot in slots]
        return {
            "image": image,
            "tile_id": np.int32(record["tile"]),
            "footprint": np.asarray(record["footprint"], np.float32),
            **self._ground(record, slots),
            "photo_mask": self._padded(np.ones(len(slots), bool)),
            "photo_id": self._padded(np.array([*map(pairs.caption_id, names)], np.int32)),
            "photo_xy": self._padded(xy[slots]),
        }

    def for_evaluation(self) -> "PairTransform":
        """The whole tile, unturned, with its first photos."""
        plain = Augmentation(self.augmentation.size, interpolation=self.augmentation.interpolation)
        return replace(self, augmentation=plain, shuffle=False)

    def _ground(self, record: Record, slots: np.ndarray) -> Sample:
        if self.photo_size is None:
            return {"photos": self._padded(record["embeddings"][slots])}
        size = self.photo_size
        shown = np.zeros((len(slots), size, size, 3), np.uint8)
        for place, slot in enumerate(slots):
            try:
                shown[place] = prepared(record["photos"][slot], size)
            except CorruptImage as error:
                what = f"photo {record['photo_ids'][slot]!r} of tile {record['id']!r}"
                raise CorruptImage(f"{what}: {error}") from error
        return {"photo_image": self._padded(shown)}

    def _padded(self, values: np.ndarray) -> np.ndarray:
        """[n, ...] -> [P, ...]."""
        room = [(0, self.photos - len(values))] + [(0, 0)] * (values.ndim - 1)
        return np.pad(values, room)


def moved(view: View, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions float32 [P, 2] as pixels of the view, and whether they lie in it, bool [P].

    Pixels right and down from the left and top edge, before and after. A position in the view
    keeps half a thousandth of a pixel from its right and bottom edge, so that it lies in a patch.
    """
    low = np.array([view.crop.left, view.crop.top])
    high = low + (view.crop.width, view.crop.height)
    seen = np.all((xy >= low) & (xy <= high), axis=1)
    points = view.boxes(np.concatenate([xy, xy], axis=1).astype(np.float32))[:, :2]
    return np.clip(points, 0, view.size - 5e-4).astype(np.float32), seen


def transform(config: ConfigDict) -> PairTransform:
    """The transform of a config's training batches. Raises UserError for unknown choices."""
    data = config.data
    if data.ground not in GROUND:
        raise UserError(f"data.ground={data.ground!r} is unknown: use one of {', '.join(GROUND)}")
    return PairTransform(
        Augmentation(
            config.model.image.size,
            crop_scale=tuple(data.crop_scale) or None,
            crop_ratio=tuple(data.crop_ratio),
            flip_horizontal=data.flip_horizontal,
            flip_vertical=data.flip_vertical,
            rotate=data.rotate,
            decode=data.decode,
        ),
        photos=data.photos,
        photo_size=config.model.image.size if data.ground == "step" else None,
    )
