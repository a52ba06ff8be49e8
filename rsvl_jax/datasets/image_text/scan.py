"""First pass: every row is read and judged once; a few dozen bytes a row are kept of it.

A chunk of rows gives NUMBER.npy, an array of ROWS; NUMBER.json, what was dropped and changed; and
NUMBER.records, the records themselves, where the source is slow to read in another order.
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvl_jax.datasets.image_text import record, scratch
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.reader import SPLITS, Drop, Reader, Row
from rsvl_jax.datasets.image_text.staging import Staging, replaced, write_json

UNNAMED = len(SPLITS)  # split of a row whose source names none
LOCATED, CAPTIONED, REGIONS, LABELLED = 1, 2, 4, 8  # bits of `has`
HAS = {"located": LOCATED, "captioned": CAPTIONED, "with_boxes": REGIONS, "labelled": LABELLED}

# size: bytes of the record. key, captions, looks: 64-bit hashes. cell: of one degree, 0: nowhere.
ROWS = np.dtype(
    [
        ("kept", "?"),
        ("split", "u1"),
        ("has", "u1"),
        ("size", "u4"),
        ("cell", "u4"),
        ("key", "u8"),
        ("captions", "u8"),
        ("looks", "u8"),
    ]
)


@dataclass
class Job:
    """What all tasks of a build share."""

    reader: Reader
    options: Options
    staging: Staging

    def open(self) -> None:
        """Opens the source in this process."""
        self.reader.open(self.staging.index)

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-len(self.reader) // self.reader.chunk)

    def path(self, number: int, kind: str) -> str:
        """Of what was found in a chunk; kind: "npy", "json", "records"."""
        return os.path.join(self.staging.chunks, f"{number:07d}.{kind}")


def scan(job: Job, number: int) -> int:
    """Judges a chunk, unless it was done before, and returns its number of rows."""
    start = number * job.reader.chunk
    stop = min(start + job.reader.chunk, len(job.reader))
    done = job.path(number, "npy")
    if not os.path.exists(done):
        rows, notes = np.zeros(stop - start, ROWS), Notes()
        with _aside(job, number) as keep:
            for place, row in enumerate(job.reader.rows(start, stop)):
                try:
                    data = _judge(job, row, rows[place : place + 1], notes.changes)
                except Drop as drop:
                    notes.drop(start + place, row, drop)
                else:
                    keep(data)
        write_json(job.path(number, "json"), notes.content())
        with replaced(done) as temporary, open(temporary, "wb") as file:
            np.save(file, rows)
    return stop - start


class Notes:
    """What was dropped and changed."""

    def __init__(self) -> None:
        self.dropped: list[tuple[int, str, str, str]] = []
        self.changes: Counter[str] = Counter()

    def drop(self, index: int, row: Row | Drop, drop: Drop) -> None:
        """Notes a row that is left out."""
        key = "" if isinstance(row, Drop) else row.key
        self.dropped.append((index, key, drop.reason, drop.detail))

    def content(self) -> dict[str, Any]:
        """For JSON."""
        return {"dropped": self.dropped, "changes": +self.changes}


def _judge(job: Job, row: Row | Drop, out: np.ndarray, changes: Counter[str]) -> bytes:
    """Fills in the row of the table and returns the record's bytes; raises Drop."""
    if isinstance(row, Drop):
        raise row
    if row.split and row.split not in SPLITS:
        raise Drop("split is unknown", row.split)
    made, looks = record.make(row, job.reader, job.options, changes)
    data = encode(made)
    out["kept"], out["size"], out["looks"] = True, len(data), looks
    out["split"] = SPLITS.index(row.split) if row.split else UNNAMED
    out["key"], out["captions"] = _hash(made["id"]), _hash("\n".join(made["captions"]))
    out["cell"], out["has"] = _cell(made), _has(made)
    return data


def encode(made: Mapping[str, Any]) -> bytes:
    """The record's bytes. Raises Drop where its name or tags are no text."""
    try:
        return record.encode(made)
    except UnicodeError as error:
        raise Drop("name or tags are not in the encoding", str(error)[:200]) from error


@contextlib.contextmanager
def _aside(job: Job, number: int) -> Iterator[Any]:
    """A function that keeps the records of a chunk for the second pass, where it needs them."""
    if job.reader.random_access:
        yield lambda data: None
        return
    with replaced(job.path(number, "records")) as temporary, open(temporary, "wb") as file:
        yield file.write


def load(job: Job) -> np.ndarray:
    """What was found in all chunks, ROWS [rows], outside of memory."""
    rows = scratch.array(job.staging.root, ROWS, len(job.reader))
    for number in range(job.chunks):
        start = number * job.reader.chunk
        rows[start : start + job.reader.chunk] = np.load(job.path(number, "npy"))
    return rows


def notes(job: Job) -> Iterator[dict[str, Any]]:
    """What was dropped and changed in each chunk, see `Notes`."""
    for number in range(job.chunks):
        with open(job.path(number, "json"), encoding="utf-8") as file:
            yield json.load(file)


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _cell(made: Mapping[str, Any]) -> int:
    """The cell of one degree that the centre lies in, from 1; 0 without a place."""
    if np.isnan(made["lon"]):
        return 0
    return int(made["lat"] + 90) * 361 + int(made["lon"] + 180) + 1


def _has(made: Mapping[str, Any]) -> int:
    found = 0 if np.isnan(made["lon"]) else LOCATED
    found |= CAPTIONED if made["captions"] else 0
    found |= REGIONS if made["phrases"] else 0
    return found | (LABELLED if made["label"] >= 0 else 0)
