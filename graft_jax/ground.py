"""Frozen embeddings of the ground photos, computed once and kept beside the run.

Layout: `<directory>/cache.json` (what made them), and for each shard of tiles `00000.npy` (float16
[n, E], the photos that no earlier shard has) and `00000.npz` (which photos those are, and the
photos of each tile). A shard is whole when its .npz is there: it is written last.
"""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from rsvl_jax.data.pairs import Record, Source
from rsvl_jax.data.transforms import CorruptImage, decode, resize
from rsvl_jax.errors import Preempted, UserError
from rsvl_jax.evaluation.features import extract
from rsvl_jax.parallel import distributed
from rsvl_jax.storage import local_copy, locate, replace_file
from rsvl_jax.training.signals import StopSignal

FORMAT = "graft_jax ground embeddings, version 1"
TILES = 512  # of a shard: as much work as a kill can lose
_HEADER = "cache.json"


class Tower(Protocol):
    """A frozen image tower; see `towers.TextImageModel`, of which this is the half that sees."""

    @property
    def image_size(self) -> int:
        """Side of the input, pixels."""

    @property
    def fingerprint(self) -> str:
        """Names the weights."""

    def images(self, pixels: jax.Array) -> Mapping[str, jax.Array]:
        """uint8 [B, H, W, 3] -> {"image": unit [B, E], ...}."""


@dataclass(frozen=True)
class _Shard:
    """names: hash of each new photo, uint64 [n]. good: bool [n], False where it cannot be decoded.
    counts: photos of each tile, int64. listed: hashes of all of them in order, uint64."""

    names: np.ndarray
    good: np.ndarray
    counts: np.ndarray
    listed: np.ndarray


class GroundCache:
    """The embeddings by tile. Pickles to worker processes, which open the files themselves."""

    def __init__(self, directory: str, shards: int):
        self._directory, self._count = directory, shards

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self._directory, "shards": self._count}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @property
    def photos(self) -> int:
        """How many different photos there are."""
        return len(self._good)

    @property
    def unreadable(self) -> int:
        """How many of them could not be decoded."""
        return int((~self._good).sum())

    @functools.cached_property
    def width(self) -> int:
        """Length E of an embedding."""
        return max(array.shape[1] for array in self._embeddings)

    def of_tile(self, tile: int) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings float16 [P, E] of a tile's photos; zeros where `good`, bool [P], is False."""
        start, end = self._ends[tile : tile + 2]
        rows = self._rows[start:end]
        shards = np.searchsorted(self._firsts, rows, side="right") - 1
        places = (rows - self._firsts[shards]).tolist()
        found = [self._embeddings[s][p] for s, p in zip(shards.tolist(), places, strict=True)]
        return np.array(found, np.float16).reshape(len(rows), self.width), self._good[rows]

    @functools.cached_property
    def _shards(self) -> list[_Shard]:
        return [_read(self._directory, number) for number in range(self._count)]

    @functools.cached_property
    def _embeddings(self) -> list[np.ndarray]:
        paths = (_path(self._directory, number, "npy") for number in range(self._count))
        return [np.load(local_copy(path), mmap_mode="r") for path in paths]

    @functools.cached_property
    def _good(self) -> np.ndarray:
        return np.concatenate([shard.good for shard in self._shards])

    @functools.cached_property
    def _firsts(self) -> np.ndarray:
        """Number of the first photo of each shard."""
        return np.cumsum([0, *(len(shard.names) for shard in self._shards[:-1])])

    @functools.cached_property
    def _ends(self) -> np.ndarray:
        """Where the photos of each tile begin among all that are listed, and the end."""
        return np.cumsum(np.concatenate([[0], *(shard.counts for shard in self._shards)]))

    @functools.cached_property
    def _rows(self) -> np.ndarray:
        """The number of each listed photo."""
        names = np.concatenate([shard.names for shard in self._shards])
        listed = np.concatenate([shard.listed for shard in self._shards])
        order = np.argsort(names)
        return order[np.searchsorted(names, listed, sorter=order)]


def ensure(
    tower: Tower,
    source: Source,
    *,
    directory: str,
    data: Mapping[str, Any],
    batch_size: int,
    mesh: Mesh,
    skip_corrupt: bool = False,
) -> GroundCache:
    """The embeddings of every photo of `source`, computing those that are not in `directory`.

    Photos are embedded on the mesh, each once however many tiles it lies in; a run that is killed
    goes on at the shard where it was. A record's own embeddings are taken where the same tower made
    them. data: says which records these are, such as name, fingerprint and split.

    Raises UserError where `directory` holds another tower's embeddings or other data's, for a photo
    that cannot be decoded (unless `skip_corrupt`: then no tile has it), for a tile with neither
    photos nor embeddings of this tower; Preempted when asked to stop.
    """
    _check_header(directory, {"format": FORMAT, "tower": tower.fingerprint, **data})
    count = -(-len(source) // TILES)
    found = next((n for n in range(count) if not _is_whole(directory, n)), count)
    done = distributed.from_first(found)
    if done < count:
        maker = _Maker(tower, source, directory, batch_size, mesh, skip_corrupt)
        maker.run(done, count)
    cache = GroundCache(directory, count)
    if jax.process_index() == 0 and done < count:
        bad = f", {cache.unreadable} unreadable ones left out" if cache.unreadable else ""
        print(f"embedded {cache.photos:,} ground photos{bad}", file=sys.stderr)
    return cache


def _check_header(directory: str, header: dict[str, Any]) -> None:
    path = os.path.join(directory, _HEADER)
    if not locate(path).exists():
        if jax.process_index() == 0:
            locate(directory).mkdir(parents=True, exist_ok=True)
            with replace_file(path) as file:
                file.write(json.dumps(header, indent=1).encode() + b"\n")
        return
    found = json.loads(locate(path).read_text())
    for key in header:
        if found.get(key) != header[key]:
            raise UserError(
                f"{directory!r} holds embeddings of another {key} (there {found.get(key)!r}, here "
                f"{header[key]!r}): delete that directory, or choose another --workdir"
            )


class _Maker:
    """Computes shards in order."""

    def __init__(
        self,
        tower: Tower,
        source: Source,
        directory: str,
        batch_size: int,
        mesh: Mesh,
        skip_corrupt: bool,
    ):
        self._tower, self._source, self._directory = tower, source, directory
        self._batch_size, self._mesh, self._skip = batch_size, mesh, skip_corrupt
        self._known = np.zeros(0, np.uint64)  # photos of the shards before, sorted

    def run(self, done: int, count: int) -> None:
        """Shards from `done` to `count`."""
        for number in range(done):
            self._know(_read(self._directory, number).names)
        silent = jax.process_index() != 0 or not sys.stderr.isatty()
        numbers = tqdm(range(done, count), "embedding photos", unit="shard", disable=silent)
        with StopSignal() as stop:
            for number in numbers:
                if stop.agreed():
                    raise Preempted(
                        f"embedded {number} of {count} shards of photos; "
                        "run the same command again to go on"
                    )
                self._make(number)

    def _know(self, names: np.ndarray) -> None:
        self._known = np.sort(np.concatenate([self._known, names]))

    def _make(self, number: int) -> None:
        tiles = range(number * TILES, min((number + 1) * TILES, len(self._source)))
        listed: list[np.uint64] = []
        counts, fresh = [], {}
        for record in (self._source[tile] for tile in tiles):
            names = [photo_hash(name) for name in record["photo_ids"]]
            listed += names
            counts.append(len(names))
            for slot, name in enumerate(names):
                if name not in fresh and not _among(self._known, name):
                    fresh[name] = self._photo(record, slot)
        embeddings, good = self._embed(list(fresh.values()))
        shard = _Shard(
            np.array(list(fresh), np.uint64),
            good,
            np.array(counts, np.int64),
            np.array(listed, np.uint64),
        )
        self._know(shard.names)
        if jax.process_index() == 0:
            _write(self._directory, number, shard, embeddings)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"ground shard {number}")

    def _photo(self, record: Record, slot: int) -> "bytes | np.ndarray":
        """The encoded photo, or its embedding where this tower has made it before."""
        if len(record["embeddings"]) and record["tower"] == self._tower.fingerprint:
            return record["embeddings"][slot]
        if not record["photos"]:
            raise UserError(
                f"tile {record['id']!r} has no photos, only embeddings of the tower "
                f"{record['tower']!r}, not of {self._tower.fingerprint!r}: collect the pairs with "
                "their photos, or use the tower that made the embeddings"
            )
        return record["photos"][slot]

    def _embed(self, photos: Sequence["bytes | np.ndarray"]) -> tuple[np.ndarray, np.ndarray]:
        """float16 [n, E] and bool [n]."""
        given = {i: photo for i, photo in enumerate(photos) if isinstance(photo, np.ndarray)}
        encoded = [photo for photo in photos if isinstance(photo, bytes)]
        rows = _Photos(encoded, self._tower.image_size, self._skip)
        parts = [np.zeros((0, 0), np.float32)]
        if encoded:
            found = extract(
                lambda pixels: {"image": self._tower.images(pixels)["image"]},
                rows,
                batch_size=self._batch_size,
                mesh=self._mesh,
            )
            parts = [found["image"]]
        good = np.ones(len(photos), bool)
        slots = [i for i in range(len(photos)) if i not in given]
        good[slots] = ~_anywhere(rows.bad)
        width = len(next(iter(given.values()))) if given else parts[0].shape[1]
        embeddings = np.zeros((len(photos), width), np.float16)
        if slots:
            embeddings[slots] = parts[0]
        for slot, value in given.items():
            embeddings[slot] = value
        embeddings[~good] = 0
        return embeddings, good


class _Photos:
    """Encoded photos as pixels uint8 [size, size, 3], decoded on access."""

    def __init__(self, encoded: Sequence[bytes], size: int, skip: bool):
        self._encoded, self._size, self._skip = encoded, size, skip
        self.bad = np.zeros(len(encoded), bool)

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, row: int) -> np.ndarray:
        try:
            return prepared(self._encoded[row], self._size)
        except CorruptImage as error:
            if not self._skip:
                raise UserError(
                    f"a ground photo cannot be decoded ({error}): mend it, or leave such photos "
                    "out with --config.data.skip_corrupt=True"
                ) from error
            self.bad[row] = True
            return np.zeros((self._size, self._size, 3), np.uint8)


def prepared(photo: bytes, size: int) -> np.ndarray:
    """CLIP's preprocessing: the shorter side resized to `size`, bicubic, and the centre cut out.

    uint8 [size, size, 3]. Raises CorruptImage.
    """
    image = decode(photo)
    height, width = image.shape[:2]
    scale = size / min(height, width)
    image = resize(
        image, (max(size, round(height * scale)), max(size, round(width * scale))), "pillow_cubic"
    )
    top, left = ((side - size) // 2 for side in image.shape[:2])
    return image[top : top + size, left : left + size]


def photo_hash(name: str) -> np.uint64:
    """64 bits that stand for a photo; among 10 million, two agree with a chance of 3e-6."""
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()))


def _among(known: np.ndarray, name: np.uint64) -> bool:
    place = int(np.searchsorted(known, name))
    return place < len(known) and known[place] == name


def _anywhere(flags: np.ndarray) -> Any:
    """Flags that any process has set: each decodes only its own rows."""
    if jax.process_count() == 1:
        return flags
    return np.any(multihost_utils.process_allgather(flags), axis=0)


def _path(directory: str, number: int, kind: str) -> str:
    return os.path.join(directory, f"{number:05d}.{kind}")


def _is_whole(directory: str, number: int) -> bool:
    return locate(_path(directory, number, "npz")).exists()


def _read(directory: str, number: int) -> _Shard:
    path = local_copy(_path(directory, number, "npz"))
    with np.load(path, allow_pickle=False) as arrays:
        return _Shard(**arrays)


def _write(directory: str, number: int, shard: _Shard, embeddings: np.ndarray) -> None:
    with replace_file(_path(directory, number, "npy")) as file:
        np.save(file, embeddings)
    with replace_file(_path(directory, number, "npz")) as file:
        np.savez(file, **vars(shard))
