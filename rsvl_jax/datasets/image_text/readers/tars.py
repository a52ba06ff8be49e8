"""Samples of WebDataset tars: members side by side that share a name up to its first dot.

Only where members begin is kept, on disk; each is found again by its header.
"""

import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from rsvl_jax.datasets.image_text.reader import Drop

ROLES = ("image", "text", "json", "label")
NONE = -1
INDEX = np.dtype([("tar", "<i4"), *((role, "<i8") for role in ROLES)])
_OPEN = 64  # files that a process keeps open


class Member(NamedTuple):
    """The name, key and content of a file in a tar."""

    key: str
    extension: str
    data: bytes


@dataclass
class Found:
    """What is in a tar. seen: how often each extension comes. error: why it ends early, or ""."""

    rows: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    error: str = ""


def named(path: str) -> tuple[str, str]:
    """("folder/key", "extension") of a member's path, as WebDataset splits it."""
    folder, name = os.path.split(path)
    key, _, extension = name.partition(".")
    return os.path.join(folder, key), extension.lower()


def scan(path: str, number: int, roles: Mapping[str, str], out) -> Found:
    """Writes an INDEX entry for every sample with an image into the open file `out`.

    roles: extension -> one of ROLES; of several with one role the first counts.
    """
    found, current, key = Found(), _empty(number), None
    try:
        for member, offset in _members(path):
            own, extension = named(member.name)
            found.seen[extension] = found.seen.get(extension, 0) + 1
            if own != key:
                found.rows += _flush(current, out)
                current, key = _empty(number), own
            role = roles.get(extension)
            if role and current[role] == NONE:
                current[role] = offset
    except (tarfile.TarError, OSError, EOFError) as error:
        found.error = " ".join(str(error).split()) or type(error).__name__
    found.rows += _flush(current, out)
    return found


def _members(path: str) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Files of a tar and where their headers begin; nothing is kept of those that have passed."""
    with tarfile.open(path, "r:") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]
            if member.isfile():
                yield member, member.offset


def _empty(number: int) -> np.ndarray:
    entry = np.full((), NONE, INDEX)
    entry["tar"] = number
    return entry


def _flush(entry: np.ndarray, out) -> int:
    if entry["image"] == NONE and entry["text"] == NONE and entry["json"] == NONE:
        return 0
    out.write(entry.tobytes())
    return 1


class Tars:
    """Members of many tars by tar number and offset."""

    def __init__(self, paths: list[str]):
        self._paths = paths
        self._archives: dict[int, tarfile.TarFile] = {}

    def read(self, number: int, offset: int) -> Member:
        """The member whose header begins at `offset`. Raises Drop where it cannot be read."""
        try:
            archive = self._archive(number)
            archive.fileobj.seek(offset)
            info = tarfile.TarInfo.fromtarfile(archive)
            archive.fileobj.seek(info.offset_data)
            data = archive.fileobj.read(info.size)
        except (tarfile.TarError, OSError) as error:
            name = os.path.basename(self._paths[number])
            raise Drop("shard cannot be read", f"{name}, byte {offset}: {error}") from error
        if len(data) < info.size:
            raise Drop(
                "shard is truncated", f"{os.path.basename(self._paths[number])}: {info.name}"
            )
        return Member(*named(info.name), data)

    def _archive(self, number: int) -> tarfile.TarFile:
        if number not in self._archives:
            if len(self._archives) >= _OPEN:
                self._archives.pop(next(iter(self._archives))).close()
            self._archives[number] = tarfile.open(self._paths[number], "r:")  # noqa: SIM115
        return self._archives[number]
