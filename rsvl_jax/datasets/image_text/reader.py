"""What a source of image-text pairs is to the build: rows that can be counted and read by number.

A reader knows one layout of downloads and nothing else: it neither decodes images nor judges what
it reads. The build validates, counts, shuffles and writes; see `build`.
"""

import argparse
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

SPLITS = ("train", "validation", "test")
Box = tuple[float, float, float, float]


class Drop(Exception):
    """A row that cannot be read. It is left out and counted under `reason`.

    reason: a short fixed phrase, such as "image is missing" (no paths or numbers in it: rows are
    counted by it). detail: what `dropped.csv` says beside it.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source, as it stands there. Only `key` and what the source has need be given.

    Attributes:
      key: name of the row, the same on every reading: the path of its image inside the source.
        Of two rows with one key the later is dropped, as "duplicate key".
      image: encoded bytes as they lie in the source; b"" where the layout has no images.
      captions: texts as they lie in the source, the one to be preferred first.
      lon, lat: degrees, of the centre; None where it has none (also with a `box`: its centre).
      box: W, S, E, N degrees; W > E where it crosses the date line.
      time: ISO 8601, as exact as it is known, such as "2019-07" or "2019-07-03T10:15"; "" unknown.
      gsd: metres a pixel; None: from the height of the box, where there is one.
      tags: anything JSON can hold, such as OpenStreetMap's tags.
      phrases, boxes: words of the caption and the pixels they stand for: xmin, ymin, xmax, ymax.
      label: index into the reader's `classes`, -1 for none.
      split: one of SPLITS, or "" where the build is to choose.
      notes: short fixed phrases that are counted into the manifest, such as "metadata is missing".
    """

    key: str
    image: bytes = b""
    captions: Sequence[str] = ()
    lon: float | None = None
    lat: float | None = None
    box: Box | None = None
    time: str = ""
    gsd: float | None = None
    tags: Mapping[str, Any] | None = None
    phrases: Sequence[str] = ()
    boxes: Sequence[Box] = ()
    label: int = -1
    split: str = ""
    notes: Sequence[str] = ()


class Reader(ABC):
    """Rows of one source in an order that never changes.

    Life of a reader: made from flags in the process that was started (`from_arguments`); there
    `prepare` writes an index into an empty folder, once; then it is pickled to every worker, where
    `open` is called with that folder before any row is read. So `__init__` keeps flags alone, and
    whatever grows with the rows lies in the folder: NumPy arrays opened with `mmap_mode="r"`
    (`np.save`, `np.load`), or SQLite; never a list with an entry a row.

    Raises UserError, one line, for a source that cannot be read at all.
    """

    layout: ClassVar[str]  # name of the subcommand
    help: ClassVar[str]  # what it reads, in a line
    parts: ClassVar[frozenset[str]] = frozenset({"image", "captions"})  # rows without are dropped
    # Whether `read` is about as fast in any order. Where it is not (row groups of a Parquet file),
    # the build reads every chunk once, in order, and keeps its records aside until it writes them.
    random_access: ClassVar[bool] = True
    chunk: int = 1024  # rows that a worker reads at a time
    classes: Sequence[str] = ()  # names of the labels; known after `open`

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Adds the flags of this layout to its subcommand; --source and the build's are there."""
        del parser  # a layout may have none of its own

    @classmethod
    @abstractmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Reader":
        """The reader that the flags ask for; checks that the files are there."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """All that decides which rows there are, for JSON: it is in the journal and the manifest.

        A build that was stopped goes on only where this, and `files`, are the same.
        """

    @abstractmethod
    def files(self) -> list[str]:
        """Paths of the source whose sizes and times of change are part of what it is."""

    @abstractmethod
    def prepare(self, folder: str) -> None:
        """Writes the index into an existing, empty folder of this reader's own."""

    @abstractmethod
    def open(self, folder: str) -> None:
        """Opens the index that `prepare` wrote, and what else this process reads from."""

    @abstractmethod
    def __len__(self) -> int:
        """Rows of the source, bad ones included."""

    @abstractmethod
    def read(self, index: int) -> Row:
        """Row number `index`. Raises Drop for one that cannot be read."""

    def rows(self, start: int, stop: int) -> Iterator[Row | Drop]:
        """Rows start ... stop - 1 in order, each or the Drop it raised."""
        for index in range(start, stop):
            try:
                yield self.read(index)
            except Drop as drop:
                yield drop

    def dropped(self) -> Mapping[str, int]:
        """Rows that `prepare` already left out, by reason; they have no number."""
        return {}


def stamp(paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """Name, size and time of change (ns) of each file or folder."""
    found = []
    for path in paths:
        status = os.stat(path)
        size = 0 if os.path.isdir(path) else status.st_size
        found.append((os.path.abspath(path), size, status.st_mtime_ns))
    return found
