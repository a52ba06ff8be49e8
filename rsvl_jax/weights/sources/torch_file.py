"""PyTorch's files without PyTorch: its ZIP format, TorchScript archives, and what came before 1.6.

TorchScript is data beside code: the tensors are read by the names of the attributes that hold them,
the code is never looked at. So are OpenAI's CLIP models published.
"""

import io
import os
import zipfile
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights.sources.archive import Archive
from rsvl_jax.weights.sources.lazy import Arrays, Tensor
from rsvl_jax.weights.sources.pickles import Storage, TorchTensor, Unpickler
from rsvl_jax.weights.sources.state_dict import find

PICKLE_BYTES = 256 << 20  # of the objects beside the numbers; real ones have a few MB at most
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

Fetch = Callable[[Storage], np.ndarray]


def read(path: str) -> tuple[Arrays, list[str]]:
    """The arrays of a state dict, and remarks: where in the file it is, what was skipped.

    Raises UserError for a file that is none of these formats, is damaged, holds no tensors, or asks
    for more than tensors and plain containers; nothing in it is run.
    """
    if zipfile.is_zipfile(path):
        return _read_zip(path)
    try:
        with open(path, "rb") as file:
            return _read_legacy(path, file)
    except OSError as error:
        raise UserError(f"{path!r} cannot be read: {error.strerror}") from error


def _read_zip(path: str) -> tuple[Arrays, list[str]]:
    archive = Archive(path)
    found = [name for name in archive.names() if name.split("/")[1:] == ["data.pkl"]]
    if len(found) != 1:
        raise UserError(f"{path!r} is a ZIP archive without a data.pkl: not one of PyTorch's")
    root = found[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive and archive.read(f"{root}byteorder").strip() != b"little":
        raise UserError(f"{path!r} has big-endian numbers: save it anew on a common machine")
    if archive.size(found[0]) > PICKLE_BYTES:
        raise UserError(f"{path!r} has {archive.size(found[0])} bytes of objects: too many")
    unpickler = Unpickler(io.BytesIO(archive.read(found[0])), repr(path))
    objects = unpickler.load()

    def check(storage: Storage) -> None:
        name = f"{root}data/{storage.key}"
        if name not in archive:
            raise UserError(f"{path!r} lacks its member {name!r}: the file is not whole")
        expected = storage.count * storage.dtype.itemsize
        if archive.size(name) != expected:
            raise UserError(
                f"{path!r}: {name!r} has {archive.size(name)} bytes, declared are {expected}"
            )

    def fetch(storage: Storage) -> np.ndarray:
        return np.frombuffer(archive.read(f"{root}data/{storage.key}"), storage.dtype)

    return _arrays(path, objects, unpickler.skipped, check, fetch)


def _read_legacy(path: str, file: BinaryIO) -> tuple[Arrays, list[str]]:
    """Five pickles, then each storage as its length and its numbers."""
    if _next(path, file).load() != _MAGIC or _next(path, file).load() != _PROTOCOL:
        raise UserError(f"{path!r} is a pickle, but not one of PyTorch's checkpoints")
    system = _next(path, file).load()
    if not isinstance(system, dict):
        raise UserError(f"{path!r} does not say how its numbers are written: it is damaged")
    if not system.get("little_endian", True):
        raise UserError(f"{path!r} has big-endian numbers: save it anew on a common machine")
    unpickler = _next(path, file)
    objects = unpickler.load()
    keys = _next(path, file).load()
    if not isinstance(keys, list):
        raise UserError(f"{path!r} has no list of its storages: the file is not whole")
    places = _Places(path, file, keys)
    return _arrays(path, objects, unpickler.skipped, places.check, places.fetch)


def _next(path: str, file: BinaryIO) -> Unpickler:
    return Unpickler(file, f"{path!r} (no ZIP archive, so read as PyTorch's older format)")


class _Places:
    """Where the storages of an older file lie, found one after the other as they are asked for."""

    def __init__(self, path: str, file: BinaryIO, keys: list[str]):
        self.path, self._keys = path, keys
        self._start, self._size = file.tell(), os.path.getsize(path)
        self._counts: dict[str, Storage] = {}
        self._found: dict[str, int] | None = None

    def check(self, storage: Storage) -> None:
        """Notes a storage; their lengths are needed to find any."""
        if storage.key not in self._keys:
            raise UserError(f"{self.path!r} lacks its storage {storage.key!r}: it is not whole")
        if storage.count * storage.dtype.itemsize > self._size:
            raise UserError(
                f"{self.path!r} declares a storage of {storage.count} numbers in a file of "
                f"{self._size} bytes"
            )
        self._counts[storage.key] = storage

    def fetch(self, storage: Storage) -> np.ndarray:
        """The numbers of a storage."""
        if self._found is None:
            self._found = self._find()
        with open(self.path, "rb") as file:
            return np.fromfile(file, storage.dtype, storage.count, offset=self._found[storage.key])

    def _find(self) -> dict[str, int]:
        found, place = {}, self._start
        with open(self.path, "rb") as file:
            for key in self._keys:
                file.seek(place)
                count = int.from_bytes(file.read(8), "little", signed=True)
                known = self._counts.get(key)
                if known is None or count != known.count:
                    raise UserError(
                        f"{self.path!r}: storage {key!r} has {count} numbers, not known"
                    )
                found[key] = place + 8
                place = found[key] + count * known.dtype.itemsize
        if place > self._size:
            raise UserError(f"{self.path!r} ends before its last storage: the file is not whole")
        return found


def _arrays(
    path: str,
    objects: Any,
    skipped: set[str],
    check: Callable[[Storage], None],
    fetch: Fetch,
) -> tuple[Arrays, list[str]]:
    named, remarks = find(objects, repr(path))
    for tensor in named.values():
        check(tensor.storage)
    if skipped:
        remarks.append(f"skipped, not run: {', '.join(sorted(skipped))}")
    tensors = {
        name: Tensor(tensor.shape, tensor.storage.dtype, partial(_view, tensor, fetch))
        for name, tensor in named.items()
    }
    return Arrays(tensors), remarks


def _view(tensor: TorchTensor, fetch: Fetch) -> np.ndarray:
    flat = fetch(tensor.storage)[tensor.offset :]
    if not np.prod(tensor.shape):
        return np.zeros(tensor.shape, flat.dtype)
    strides = [stride * flat.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(flat, tensor.shape, strides, writeable=False)
    return np.ascontiguousarray(view).reshape(tensor.shape)
