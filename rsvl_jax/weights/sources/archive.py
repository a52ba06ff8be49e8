"""ZIP files whose members are read in place, and never more of them than the file can hold."""

import os
import zipfile

from rsvl_jax.errors import UserError
from rsvl_jax.weights.sources.paths import is_plain

DEFLATE_RATIO = 1032  # the most that deflate can ever make of a byte
INFLATED_BYTES = 64 << 20  # of compressed members together, whatever the size of the file,
INFLATED_RATIO = 100  # or this many times the file: weights hardly compress


class Archive:
    """The members of a ZIP file. Raises UserError for a file that is not a sound one."""

    def __init__(self, path: str):
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UserError(f"{path!r} is not a whole ZIP archive: {error}") from error
        self._members = {info.filename: info for info in self._zip.infolist()}
        if len(self._members) < len(self._zip.infolist()):
            raise UserError(f"{path!r} has several members of one name: refused")
        for info in self._members.values():
            self._check(info)
        self._check_total()

    def _check(self, info: zipfile.ZipInfo) -> None:
        """What a member declares, against the file; nothing is allocated."""
        if not is_plain(info.filename):
            raise UserError(f"{self.path!r} has a member {info.filename!r}: names must not escape")
        size, packed = info.file_size, info.compress_size
        if info.header_offset + packed > os.path.getsize(self.path):
            self._refuse(info, f"{packed} bytes, more than the file")
        if info.compress_type == zipfile.ZIP_STORED:
            if size != packed:
                self._refuse(info, f"{size} bytes, but stores {packed}")
        elif info.compress_type != zipfile.ZIP_DEFLATED:
            self._refuse(info, f"compression {info.compress_type}")
        elif size > DEFLATE_RATIO * packed + 64:
            self._refuse(info, f"{size} bytes, which {packed} cannot unfold to")

    def _check_total(self) -> None:
        packed = (i for i in self._members.values() if i.compress_type != zipfile.ZIP_STORED)
        total = sum(info.file_size for info in packed)
        if total > max(INFLATED_BYTES, INFLATED_RATIO * os.path.getsize(self.path)):
            raise UserError(
                f"{self.path!r} declares {total} bytes of compressed members in a file of "
                f"{os.path.getsize(self.path)}: refused"
            )

    def _refuse(self, info: zipfile.ZipInfo, what: str) -> None:
        raise UserError(f"{self.path!r}: member {info.filename!r} declares {what}: refused")

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def names(self) -> list[str]:
        """Names of the members, in the order of the archive."""
        return list(self._members)

    def size(self, name: str) -> int:
        """Bytes of a member, unfolded."""
        return self._members[name].file_size

    def read(self, name: str, limit: int = -1) -> bytes:
        """The content of a member, or its first `limit` bytes. Raises UserError if damaged."""
        try:
            with self._zip.open(name) as member:
                return member.read(self.size(name) if limit < 0 else limit)
        except Exception as error:  # the library raises what zlib and struct do
            raise UserError(f"{self.path!r}: member {name!r} is damaged: {error}") from error
