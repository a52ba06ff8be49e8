"""Writing a collection: shards by TFDS, then the manifest; nothing half written is ever found."""

import contextlib
import hashlib
import importlib.metadata
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from rsvl_jax.datasets import registry, store
from rsvl_jax.datasets.ground_satellite_pairs.builder import GroundSatellitePairs, example
from rsvl_jax.datasets.ground_satellite_pairs.record import Pairs
from rsvl_jax.errors import UserError

_PACKAGES = ("numpy", "tensorflow-datasets", "array_record")


def publish(name: str, data_dir: str, fill: Callable[[str], str]) -> str:
    """Lets `fill` make a collection below a hidden directory, then moves it to its place.

    fill: takes the hidden directory, which is removed afterwards whatever happens, and returns the
    directory inside it that is the whole data set (see `write`). Returns where it then lies.
    Raises UserError if a collection of that name is there already.
    """
    entry = registry.pairs(name)
    final = entry.directory(data_dir)
    with store.disk_errors(final), store.lock(store.hidden(entry, data_dir, "lock")):
        if store.is_whole(final):
            raise UserError(f"{final!r} is there already: delete it or choose another --name")
        staging = store.hidden(entry, data_dir, "building")
        shutil.rmtree(staging, ignore_errors=True)  # left by a run that was killed
        try:
            whole = fill(staging)
            os.makedirs(os.path.dirname(final), exist_ok=True)
            os.replace(whole, final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return final


def write(
    name: str,
    staging: str,
    examples: Mapping[str, Any],
    *,
    content: Mapping[str, Any],
    finish: Callable[[str, Mapping[str, int]], None] | None = None,
    packages: Iterable[str] = (),
    beam_options: Any = None,
) -> str:
    """Writes shards and manifest below `staging` and returns the directory they are in.

    examples: by split, an iterable of records (see `parse`) or a Beam PTransform that gives
    (id, `builder.example`) pairs · content: what else the manifest says · finish: called with the
    directory and the counts before the files are listed, to add files · packages: whose versions
    are listed besides. The bytes depend on the records alone, not on who made them in what order.
    Raises UserError if no record comes.
    """
    from rsvl_jax.datasets import building  # which builds on this package's records

    directory = _write_shards(name, staging, examples, beam_options)
    counts, fingerprint = read_back(directory)
    if finish is not None:
        finish(directory, counts)
    versions = {p: importlib.metadata.version(p) for p in (*_PACKAGES, *packages)}
    building.write_json(
        directory, store.PROVENANCE, {"files": _files(directory), "packages": versions}
    )
    entry = registry.pairs(name)
    head = {"name": entry.name, "version": entry.version, "splits": counts}
    building.write_json(directory, store.MANIFEST, {**head, "fingerprint": fingerprint, **content})
    return directory


def _write_shards(name: str, staging: str, examples: Mapping[str, Any], beam_options: Any) -> str:
    given: dict[str, Any] = {}
    for split, records in examples.items():
        if not isinstance(records, Iterable):
            given[split] = records
        elif (first := next(iterator := iter(records), None)) is not None:
            given[split] = _keyed(first, iterator)
    if not given:
        raise UserError("no tile is left to write: see the counts of what was left out")
    logging.set_verbosity(logging.ERROR)  # it would warn that the configuration is new
    builder = GroundSatellitePairs(examples=given, name=name, data_dir=staging)
    tfds.disable_progress_bar()  # the collection shows its own
    with contextlib.redirect_stdout(io.StringIO()):  # it would speak of a download
        builder.download_and_prepare(
            download_dir=os.path.join(staging, "downloads"),
            download_config=tfds.download.DownloadConfig(beam_options=beam_options),
            file_format="array_record",
        )
    return str(builder.data_path)


def _keyed(first: Mapping[str, Any], rest: Iterator[Mapping[str, Any]]) -> Iterator:
    yield first["id"], example(first)
    for record in rest:
        yield record["id"], example(record)


def read_back(directory: str) -> tuple[dict[str, int], str]:
    """Records of each split and a hash over all of them, from what lies on the disk."""
    digest, counts = hashlib.sha256(), dict.fromkeys(("train", "validation", "test"), 0)
    for split in counts:
        shards = sorted(f for f in os.listdir(directory) if f"-{split}.array_record" in f)
        for shard in shards:
            reader = Pairs([os.path.join(directory, shard)], 0)._open()
            for index in range(len(reader)):
                digest.update(split.encode() + reader[index])
            counts[split] += len(reader)
    return counts, digest.hexdigest()


def _files(directory: str) -> dict[str, dict[str, Any]]:
    found = {}
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[name] = {"bytes": os.path.getsize(path), "sha256": digest}
    return found
