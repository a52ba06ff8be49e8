"""Delimited text files with a header line, read by row number: eight bytes a row are kept."""

import codecs
import csv
import os
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from rsvl_jax.datasets.image_text.reader import Drop
from rsvl_jax.errors import UserError

_LONGEST = 2**20  # bytes of one row; beyond it a quotation mark was left open
_QUOTE = b'"'
_PLACE = struct.Struct("<q")


class Lines:
    """The rows below the header of one file.

    A quoted field may hold separators and line ends; a mark inside of an unquoted one is a letter.
    """

    def __init__(self, path: str, separator: str = "", encoding: str = "utf-8"):
        """separator: "" finds out whether it is a tab or a comma. Raises UserError, one line."""
        self.path, self.encoding = path, encoding
        _check_encoding(encoding)
        try:
            with open(path, "rb") as file:
                first = file.read(2**16)
        except OSError as error:
            raise UserError(f"cannot read {path!r}: {error.strerror}") from error
        if first[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise UserError(f"{path!r} is UTF-16: save it as UTF-8 first")
        if b"\0" in first.partition(b"\n")[0]:
            raise UserError(f"{path!r} is not a text file: it has NUL bytes in its first line")
        header = first.removeprefix(codecs.BOM_UTF8).splitlines()[:1]
        line = header[0].decode(encoding, "surrogateescape") if header else ""
        self.separator = separator or ("\t" if "\t" in line else ",")
        self.columns: tuple[str, ...] = tuple(name.strip() for name in self._fields(line))
        self._starts = np.zeros(0, np.int64)
        self._file: BinaryIO | None = None

    def column(self, wanted: str | Sequence[str], flag: str) -> str:
        """The one of the names that the file has; UserError, with all that it has, for none."""
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        for name in names:
            if name in self.columns:
                return name
        raise UserError(
            f"{self.path!r} has no column {' or '.join(map(repr, names))}, but "
            f"{', '.join(map(repr, self.columns))}: name the right one with --{flag}"
        )

    def prepare(self, path: str) -> None:
        """Notes where each row begins, and the last ends, in a file."""
        last = 0
        with open(self.path, "rb") as file, open(path, "wb") as out:
            for number, (start, end) in enumerate(
                _logical(file, self.separator.encode(self.encoding))
            ):
                if number:  # without the header
                    out.write(_PLACE.pack(start))
                last = end
            out.write(_PLACE.pack(last))

    def open(self, path: str) -> None:
        """Opens what `prepare` noted."""
        self._starts = np.memmap(path, np.dtype("<i8"), "r")
        self._file = open(self.path, "rb")  # noqa: SIM115 as long as the process lives

    def __len__(self) -> int:
        return max(len(self._starts) - 1, 0)

    def read(self, index: int) -> dict[str, str]:
        """A row by column; bytes that are not in the encoding become lone surrogates.

        Raises Drop for a row with another number of fields than the header.
        """
        assert self._file is not None, "open first"
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        self._file.seek(start)
        text = self._file.read(end - start).decode(self.encoding, "surrogateescape")
        fields = self._fields(text)
        if len(fields) != len(self.columns):
            raise Drop(
                "row has another number of fields than the header",
                f"{os.path.basename(self.path)}, byte {start}: {len(fields)}",
            )
        return dict(zip(self.columns, fields, strict=True))

    def _fields(self, text: str) -> list[str]:
        """Of the first row in the text."""
        reader = csv.reader(text.splitlines(keepends=True), delimiter=self.separator)
        try:
            return next(iter(reader), [])
        except csv.Error as error:
            raise Drop("row cannot be parsed", str(error)) from error


def _check_encoding(name: str) -> None:
    try:
        plain = ',\t"\n'.encode(name) == b',\t"\n'
    except LookupError:
        plain = False
    if not plain:
        raise UserError(f"--encoding={name!r}: use one such as utf-8, latin-1 or gb18030")


def _logical(file: BinaryIO, separator: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of every row that is not blank, with the lines that its quotes hold together.

    Where a mark is never closed, the line stands alone, and reading goes on with the next.
    """
    end = 0
    while line := file.readline():
        start, end = end, end + len(line)
        if _QUOTE in line and _is_open(line, separator):
            end = _closing(file, line, end, separator)
        if line.strip():
            yield start, end


def _closing(file: BinaryIO, line: bytes, end: int, separator: bytes) -> int:
    """End of a row whose first line leaves a quotation mark open."""
    whole = line
    while len(whole) < _LONGEST and (more := file.readline()):
        whole += more
        if _QUOTE in more and not _is_open(whole, separator):
            return file.tell()
    file.seek(end)
    return end


def _is_open(text: bytes, separator: bytes) -> bool:
    """Whether text ends inside a quoted field."""
    place = 0
    while True:
        if text[place : place + 1] == _QUOTE:
            place = text.find(_QUOTE, place + 1)
            while place >= 0 and text[place + 1 : place + 2] == _QUOTE:
                place = text.find(_QUOTE, place + 2)
            if place < 0:
                return True
        place = text.find(separator, place) + 1
        if not place:
            return False
