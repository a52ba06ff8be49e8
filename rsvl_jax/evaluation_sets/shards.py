"""Records of the shards that TFDS writes: ArrayRecord or TFRecord files, read where they lie."""

import glob
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import splits

INFO = "dataset_info.json"


class Records(Protocol):
    """Bytes by row."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> bytes: ...


def json_of(path: str) -> Any:
    """The content of a JSON file. Raises UserError for none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{path!r} cannot be read: {error}") from error


def open_shards(folder: str) -> dict[str, Records]:
    """Records by split; those of a split are all there, as many as dataset_info.json says."""
    path = os.path.join(folder, INFO)
    info, found = json_of(path), {}
    for split in info.get("splits", ()):
        name, lengths = split["name"], [int(length) for length in split["shardLengths"]]
        ending = info.get("fileFormat", "tfrecord")
        start = glob.escape(os.path.join(folder, f"{info['name']}-{name}.{ending}"))
        paths = sorted(glob.glob(f"{start}-*-of-*"))
        if len(paths) != len(lengths):
            raise UserError(f"{folder!r} has {len(paths)} shards of {name}: {len(lengths)} wanted")
        if ending not in _FORMATS:
            raise UserError(f"{path!r}: files of {ending!r}: {', '.join(_FORMATS)} are read")
        records = _FORMATS[ending](paths)
        if len(records) != sum(lengths):
            raise UserError(
                f"{folder!r} has {len(records)} records of {name}: {sum(lengths)} wanted"
            )
        found[splits.SPELT.get(name, name)] = records
    if not found:
        raise UserError(f"{path!r} says of no splits")
    return found


def _array_record(paths: list[str]) -> Records:
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    try:
        return ArrayRecordDataSource(paths)
    except (RuntimeError, ValueError, OSError) as error:
        line = " ".join(str(error).split())[:200]
        raise UserError(f"{paths[0]!r} is no whole ArrayRecord file ({line})") from error


@dataclass(frozen=True)
class _TFRecords:
    """Records of TFRecord files: length (8 bytes), its check (4), the bytes, their check (4)."""

    places: tuple[tuple[str, int, int], ...]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> bytes:
        path, start, length = self.places[row]
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(length)


def _tfrecord(paths: list[str]) -> Records:
    return _TFRecords(tuple(place for path in paths for place in _places(path)))


def _places(path: str) -> Iterator[tuple[str, int, int]]:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        at = 0
        while at < size:
            file.seek(at)
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            if at + 16 + length > size:
                raise UserError(f"{path!r} is cut off at byte {size}: get it again")
            yield path, at + 12, length
            at += 16 + length


_FORMATS = {"array_record": _array_record, "tfrecord": _tfrecord}
