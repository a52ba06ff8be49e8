"""Second pass: the records of a shard, in their shuffled order, and facts about it."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from rsvl_jax.datasets.image_text import record, scan
from rsvl_jax.datasets.image_text.reader import Drop
from rsvl_jax.datasets.image_text.scan import Job
from rsvl_jax.datasets.image_text.staging import replaced, write_json
from rsvl_jax.errors import UserError

# A record a block, as TFDS writes for random access; encoded images have nothing left to squeeze.
_WRITING = "group_size:1,uncompressed"


@dataclass(frozen=True)
class Shard:
    """A task of `write`.

    Attributes:
      filename: of the shard, as TFDS names them.
      rows: numbers of its rows in their stored order. sizes: bytes of each record.
      offsets: where each record lies in its chunk, where records were kept aside.
      sampled: of so many leading records the captions are noted for the tokenizer.
    """

    filename: str
    rows: np.ndarray
    sizes: np.ndarray
    offsets: np.ndarray | None = field(repr=False, default=None)
    sampled: int = 0


def write(job: Job, shard: Shard) -> dict[str, Any]:
    """Writes a shard unless it is there; its records, bytes, sha256, content_bytes and captions."""
    facts = os.path.join(job.staging.shards, f"{shard.filename}.json")
    if not os.path.exists(facts):
        path = os.path.join(job.staging.whole, shard.filename)
        with replaced(path) as temporary:
            captions = _write(job, shard, temporary)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        write_json(
            facts,
            {
                "records": len(shard.rows),
                "bytes": os.path.getsize(path),
                "content_bytes": int(shard.sizes.sum()),
                "sha256": digest,
                "captions": captions,
            },
        )
    with open(facts, encoding="utf-8") as file:
        return json.load(file)


def _write(job: Job, shard: Shard, path: str) -> list[str]:
    captions: list[str] = []
    writer = ArrayRecordWriter(path, _WRITING)
    try:
        for place, (row, size) in enumerate(zip(shard.rows, shard.sizes, strict=True)):
            if shard.offsets is None:
                data = _again(job, int(row))
            else:
                data = _kept(job, int(row), int(shard.offsets[place]), int(size))
            if len(data) != size:
                raise _changed(job, int(row))
            writer.write(data)
            if place < shard.sampled:
                captions += record.parse(data)["captions"]
    finally:
        writer.close()
    return captions


def _again(job: Job, row: int) -> bytes:
    """The record from the source; its image was decoded in the first pass."""
    try:
        made, _ = record.make(
            job.reader.read(row), job.reader, job.options, Counter(), decode=False
        )
        return scan.encode(made)
    except Drop as drop:
        raise _changed(job, row) from drop


def _kept(job: Job, row: int, offset: int, size: int) -> bytes:
    with open(job.path(row // job.reader.chunk, "records"), "rb") as file:
        file.seek(offset)
        return file.read(size)


def _changed(job: Job, row: int) -> UserError:
    return UserError(
        f"row {row} of the source is not what it was when the build began: leave the source as it "
        "is while it is read, and build with --restart"
    )
