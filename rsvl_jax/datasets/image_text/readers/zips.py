"""Members of many large zip files by their file names, with some forty bytes a member on disk.

Python's own zipfile holds an object of a kilobyte a member, and millions of members would not fit.
Format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3 (Zip64).
"""

import contextlib
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from rsvl_jax.datasets.image_text import scratch
from rsvl_jax.datasets.image_text.reader import Drop
from rsvl_jax.errors import UserError

_MEMBER = np.dtype(
    [
        *(("file", "u2"), ("method", "u2"), ("crc", "u4")),
        *(("offset", "u8"), ("packed", "u4"), ("size", "u4")),
    ]
)
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_NO_32, _NO_16 = 0xFFFFFFFF, 0xFFFF
_ENCRYPTED = 1
_BLOCK = 2**20


class Zips:
    """Files of a list of zips, each found by its name without folders."""

    def __init__(self, paths: Sequence[str]):
        self.paths = list(paths)
        self._names = np.zeros(0, np.uint64)
        self._members = np.zeros(0, _MEMBER)
        self._files: list[BinaryIO] = []

    def prepare(self, path: str) -> None:
        """Reads all central directories into PATH-names.npy and PATH-members.npy.

        Of members with one name that of the first zip counts. Raises UserError for a zip that is
        not whole.
        """
        used = 0
        most = sum(_count(zip_path) for zip_path in self.paths)
        folder = os.path.dirname(path)
        names = scratch.array(folder, np.uint64, most)
        members = scratch.array(folder, _MEMBER, most)
        for number, zip_path in enumerate(self.paths):
            used += _fill(zip_path, number, names[used:], members[used:])
        _save(path, names[:used], members[:used])

    def open(self, path: str) -> None:
        """Opens what `prepare` wrote, and the zips."""
        self._names = np.load(f"{path}-names.npy", mmap_mode="r")
        self._members = np.load(f"{path}-members.npy", mmap_mode="r")
        self._files = [open(zip_path, "rb") for zip_path in self.paths]  # noqa: SIM115

    def read(self, name: str, what: str) -> bytes | None:
        """Bytes of the member of that file name, None if there is none.

        what: "image" or "metadata". Raises Drop where its bytes are not what they were.
        """
        # of the array's own type: any other would have the whole of it converted
        key = np.uint64(_hash(name.encode(errors="surrogateescape")))
        place = int(np.searchsorted(self._names, key))
        if place == len(self._names) or self._names[place] != key:
            return None
        member = self._members[place]
        file = self._files[member["file"]]
        file.seek(int(member["offset"]))
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
            raise Drop(f"{what} cannot be read", f"{name}: no header in the zip")
        fields = _LOCAL.unpack(head)
        file.seek(fields[-2] + fields[-1], os.SEEK_CUR)
        data = _unpacked(
            file.read(int(member["packed"])), int(member["method"]), int(member["size"])
        )
        if data is None or zlib.crc32(data) != member["crc"]:
            raise Drop(f"{what} cannot be read", f"{name}: its bytes in the zip are damaged")
        return data


def _unpacked(data: bytes, method: int, size: int) -> bytes | None:
    if method == _STORED:
        return data
    if method != _DEFLATED:
        return None
    unpacker = zlib.decompressobj(-15)
    try:
        return unpacker.decompress(data, size + 1)  # no more than it says it is
    except zlib.error:
        return None


def _save(path: str, names: np.ndarray, members: np.ndarray) -> None:
    """Writes both as .npy, sorted by name and, of one name, as they are."""
    files = (f"{path}-names.npy", names), (f"{path}-members.npy", members)
    if not len(names):
        for file, empty in files:
            np.save(file, empty)  # nothing can be mapped of no bytes
        return
    outs = [np.lib.format.open_memmap(file, "w+", a.dtype, a.shape) for file, a in files]
    start = 0
    for part in scratch.parts(names):
        rows = part[np.argsort(names[part], kind="stable")]
        for out, array in zip(outs, (names, members), strict=True):
            out[start : start + len(rows)] = array[rows]
        start += len(rows)
    for out in outs:
        out.flush()


def _count(path: str) -> int:
    """Entries of a zip; UserError for one that is not whole."""
    with _whole(path), open(path, "rb") as file:
        count, size, _ = _directory(file)
        if count * _CENTRAL.size > size:
            raise ValueError("its directory is too short")
        return count


def _fill(path: str, number: int, names: np.ndarray, members: np.ndarray) -> int:
    """Puts hashed names and _MEMBERs of one zip at the beginning of the arrays; how many."""
    used = 0
    with _whole(path), open(path, "rb") as file:
        for name, member in _entries(file, *_directory(file)):
            if name and not name.endswith(b"/"):
                names[used] = _hash(name.rpartition(b"/")[2])
                members[used] = (number, *member)
                used += 1
    return used


@contextlib.contextmanager
def _whole(path: str) -> Iterator[None]:
    """Turns what a broken zip raises into a line."""
    try:
        yield
    except (ValueError, struct.error) as error:
        raise UserError(
            f"{path!r} is not a whole zip file ({error}): download it again, or move it away "
            "to do without its rows"
        ) from error


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Entries, bytes and place of the central directory."""
    length = file.seek(0, os.SEEK_END)
    tail_size = min(length, _END.size + _END64_LOCATOR.size + 2**16)
    file.seek(length - tail_size)
    tail = file.read(tail_size)
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or place + _END.size > len(tail):
        raise ValueError("it has no central directory")
    _, _, _, _, count, size, offset, _ = _END.unpack_from(tail, place)
    if _NO_16 in (count,) or _NO_32 in (size, offset):
        _, _, at, _ = _END64_LOCATOR.unpack_from(tail, place - _END64_LOCATOR.size)
        file.seek(at)
        fields = _END64.unpack(file.read(_END64.size))
        if fields[0] != b"PK\x06\x06":
            raise ValueError("it has no central directory")
        count, size, offset = fields[-3:]
    if offset + size > length:
        raise ValueError(f"its directory lies beyond its {length} bytes")
    return count, size, offset


def _entries(
    file: BinaryIO, count: int, size: int, offset: int
) -> Iterator[tuple[bytes, tuple[int, int, int, int, int]]]:
    """Name and (method, crc, offset, packed size, size) of every entry, a block at a time."""
    file.seek(offset)
    block, place, left = b"", 0, size
    for _ in range(count):
        while len(block) - place < _CENTRAL.size + 3 * 2**16 and left:
            more = file.read(min(_BLOCK, left))
            block, place, left = block[place:] + more, 0, left - len(more)
            if not more:
                raise ValueError("its directory is cut short")
        head = _CENTRAL.unpack_from(block, place)
        if head[0] != b"PK\x01\x02":
            raise ValueError("its directory is damaged")
        flags, method, crc, packed, unpacked = head[5], head[6], *head[9:12]
        name_size, extra_size, comment_size, at = head[12], head[13], head[14], head[-1]
        place += _CENTRAL.size
        name = block[place : place + name_size]
        extra = block[place + name_size : place + name_size + extra_size]
        place += name_size + extra_size + comment_size
        if _NO_32 in (unpacked, packed, at):
            unpacked, packed, at = _large(extra, unpacked, packed, at)
        if flags & _ENCRYPTED or max(packed, unpacked) > _NO_32:
            method, packed, unpacked = _NO_16, 0, 0  # read by nobody
        yield name, (method, crc, at, packed, unpacked)


def _large(extra: bytes, *numbers: int) -> list[int]:
    """The numbers, those that 32 bits do not hold from the Zip64 field, where they follow."""
    place = 0
    while place + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, place)
        place += 4
        if kind == 1:
            found = list(numbers)
            for number in (n for n, value in enumerate(numbers) if value == _NO_32):
                (found[number],) = struct.unpack_from("<Q", extra, place)
                place += 8
            return found
        place += size
    raise ValueError("an entry lies nowhere")


def _hash(name: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")
