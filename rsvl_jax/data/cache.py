"""Decoded images that are kept: in memory for the threads of a process, or on a local disk for all.

What fits is kept and stays: records come in a new order every epoch, and then a store that forgets
the oldest has no more of the next ones than this. Only who decodes an image depends on the store,
never what is seen of it.
"""

import errno
import fcntl
import hashlib
import os
import sys
import threading
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from rsvl_jax.data import mixtures
from rsvl_jax.data.decoding import AUTO, Picture, decode_within, longest_side
from rsvl_jax.data.order import Key, Order
from rsvl_jax.data.pairs import Record, Source
from rsvl_jax.data.transforms import CorruptImage
from rsvl_jax.errors import UserError

_DISK = "disk:"
_BOOT = "/proc/sys/kernel/random/boot_id"
_HEAD = np.dtype(("<i4", 4))  # rows and columns of the pixels, and of the image


class Store(Protocol):
    """Pictures by record number."""

    @property
    def used(self) -> int:
        """Bytes of what is kept."""

    def get(self, index: int) -> Picture | None: ...

    def put(self, index: int, picture: Picture) -> None:
        """Keeps a picture, unless there is no room for it."""


@dataclass(frozen=True)
class Cached:
    """The records of `source` with their images decoded, at most `side` pixels long; 0: as stored.

    An image that cannot be decoded stays as it is: who looks at it says so.
    """

    source: Source
    store: Store
    side: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        picture = self.store.get(index)
        if picture is None:
            try:
                picture = decode_within(record["image"], self.side)
            except CorruptImage:
                return record
            self.store.put(index, picture)
        return {**record, "image": picture}

    def order(self, key: Key) -> Order:
        """As the source is drawn from."""
        return mixtures.order(self.source, key)

    def another(self, index: int, rng: np.random.Generator) -> int:
        """As the source replaces a record."""
        return mixtures.another(self.source, index, rng)


def cache_from(source: Source, config: ConfigDict, key: str) -> Source:
    """The source with the cache that a `data` section asks for; see `cached`."""
    return cached(
        source,
        config.cache,
        gib=config.cache_gib,
        decode=config.decode,
        key=key,
        workers=config.workers,
    )


def cached(
    source: Source, where: str, *, gib: float, decode: str, key: str, workers: int
) -> Source:
    """The source with a cache: `where` is "none", "memory" or "disk:DIR".

    gib: room for decoded images, by machine. decode: `data.decode`. key: what identifies the
    records, so that one directory may serve several data sets. workers: processes that will read.
    Raises UserError for what cannot work.
    """
    if where == "none":
        return source
    if decode == AUTO:
        raise UserError(
            f"data.cache={where!r} needs images of one size, whatever is cropped of them: set "
            "data.decode to 'full', or to the pixels of the longer side, such as '320'"
        )
    side, limit = longest_side(decode), int(gib * 2**30)
    if limit < 1:
        raise UserError(f"data.cache_gib={gib} leaves no room: use more than 0")
    if where == "memory":
        if workers:
            raise UserError(
                f"data.cache='memory' is not shared by data.workers={workers} processes: use "
                "data.workers=0 with data.threads, or data.cache='disk:DIR'"
            )
        return Cached(source, MemoryStore(limit), side)
    if not where.startswith(_DISK) or where == _DISK:
        raise UserError(f"data.cache={where!r} is unknown: use 'none', 'memory' or 'disk:DIR'")
    directory = os.path.join(where.removeprefix(_DISK), _name(key, decode, len(source)))
    return Cached(source, DiskStore(directory, len(source), limit), side)


def _name(*parts: Any) -> str:
    """A directory of these records for as long as the machine is up.

    Pages that a power cut kept from the disk would be taken for pixels.
    """
    boot = ""
    if os.path.exists(_BOOT):
        with open(_BOOT, encoding="utf-8") as file:
            boot = file.read()
    return hashlib.sha256(repr((*parts, boot)).encode()).hexdigest()[:16]


class MemoryStore:
    """Pictures in this process, `limit` bytes of them."""

    def __init__(self, limit: int):
        self.used = 0
        self._limit = limit
        self._pictures: dict[int, Picture] = {}
        self._lock = threading.Lock()

    def get(self, index: int) -> Picture | None:
        return self._pictures.get(index)

    def put(self, index: int, picture: Picture) -> None:
        with self._lock:
            if index in self._pictures or self.used + picture.pixels.nbytes > self._limit:
                return
            picture.pixels.setflags(write=False)  # seen by many
            self._pictures[index] = picture
            self.used += picture.pixels.nbytes


class DiskStore:
    """Pictures in two files of `directory`, `limit` bytes of them, for the processes of a machine.

    `pixels`: pictures one after another, each a head and its pixels. `index`: int64, the bytes in
    use, then the place of each record's picture, plus one; 0: not kept. A place is written after
    its picture, so a reader finds a whole one or none, and a killed writer only wastes room.
    Files open at the first use in each process.
    """

    def __init__(self, directory: str, count: int, limit: int):
        self._made = (directory, count, limit)
        self._directory, self._count, self._limit = self._made
        self._lock = threading.Lock()
        self._index: np.ndarray | None = None
        self._full = False

    def __reduce__(self) -> tuple[Any, ...]:
        return DiskStore, self._made

    @property
    def used(self) -> int:
        return int(self._open()[0])

    def get(self, index: int) -> Picture | None:
        place = int(self._open()[1 + index]) - 1
        if place < 0:
            return None
        rows, columns, *shape = self._pixels[place : place + _HEAD.itemsize].view("<i4").tolist()
        start = place + _HEAD.itemsize
        pixels = self._pixels[start : start + rows * columns * 3].reshape(rows, columns, 3)
        return Picture(pixels, (shape[0], shape[1]), (rows / shape[0], columns / shape[1]))

    def put(self, index: int, picture: Picture) -> None:
        places = self._open()
        head = np.array([*picture.pixels.shape[:2], *picture.shape], "<i4").tobytes()
        data = head + picture.pixels.tobytes()
        place = None if self._full or places[1 + index] else self._reserve(len(data))
        if place is None:
            return
        if self._write(data, place):
            places[1 + index] = place + 1

    def _write(self, data: bytes, place: int) -> bool:
        try:
            if os.pwrite(self._file, data, place) == len(data):
                return True
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        self._full = True
        print(f"data.cache: {self._directory!r} is full; no more is kept", file=sys.stderr)
        return False

    def _reserve(self, size: int) -> int | None:
        """The place of `size` bytes that nobody else has, a multiple of 8; None: no room."""
        places = self._open()
        size = -(-size // 8) * 8
        with self._lock:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                place = int(places[0])
                if place + size > self._limit:
                    return None
                places[0] = place + size
                return place
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _open(self) -> np.ndarray:
        if self._index is None:
            with self._lock:
                if self._index is None:
                    self._index = self._map()
        return self._index

    def _map(self) -> np.ndarray:
        try:
            os.makedirs(self._directory, exist_ok=True)
            path = os.path.join(self._directory, "pixels")
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._pixels = np.memmap(path, np.uint8, "r", shape=self._room(self._file, self._limit))
            path = os.path.join(self._directory, "index")
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            self._room(file, 8 * (1 + self._count))
            os.close(file)
            return np.memmap(path, np.int64, "r+", shape=1 + self._count)
        except OSError as error:
            raise UserError(
                f"data.cache: cannot write {self._directory!r} ({error.strerror}): choose another "
                "directory"
            ) from error

    @staticmethod
    def _room(file: int, size: int) -> int:
        """Makes a file at least `size` bytes long, without using the disk; its length."""
        fcntl.flock(file, fcntl.LOCK_EX)
        size = max(size, os.fstat(file).st_size)
        os.ftruncate(file, size)
        fcntl.flock(file, fcntl.LOCK_UN)
        return size
