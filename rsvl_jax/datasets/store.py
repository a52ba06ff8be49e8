"""Building data sets and finding their files. Nothing bears the final name until it is whole."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from rsvl_jax.datasets import registry
from rsvl_jax.datasets.registry import Entry
from rsvl_jax.datasets.source import Source
from rsvl_jax.errors import UserError

MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"


def ensure(name: str, data_dir: str) -> None:
    """Builds a data set unless it is there. Calls at the same time wait for one another.

    A build that was killed leaves only a hidden directory, which the next one clears.
    Raises UserError for an unknown name, a directory that is half there (files without a
    manifest), one that cannot be written, a full disk, and pairs that were never collected.
    """
    entry = registry.find(name)
    directory = entry.directory(data_dir)
    if is_whole(directory):
        return
    if entry.builder == registry.PAIRS:
        raise UserError(
            f"no collection {entry.config!r} in {data_dir!r}: collect it with "
            f"'python -m graft_jax.pairs --name={entry.config} --data_dir={data_dir} ...'"
        )
    if entry.builder == registry.IMAGE_TEXT:
        raise UserError(_not_built(entry, data_dir))
    with disk_errors(directory), lock(hidden(entry, data_dir, "lock")):
        if not is_whole(directory):
            _build(entry, data_dir)


def manifest(name: str, data_dir: str) -> dict[str, Any]:
    """What a built data set is.

    Keys: name, version, splits (records of each), fingerprint (of all records), classes (names of
    the labels), prompts (zero-shot templates, "{c}" for a class), class_counts (by split and
    class); zoom_pairs: pixel_classes (names of the mask's values). Raises UserError where it is
    missing or unreadable.
    """
    return _read_json(name, data_dir, MANIFEST)


def provenance(name: str, data_dir: str) -> dict[str, Any]:
    """What the files are: "files" (size and SHA-256 by name) and "packages" (versions read)."""
    return _read_json(name, data_dir, PROVENANCE)


def artifact(name: str, data_dir: str, filename: str) -> str:
    """Absolute path of a file of a data set, such as "tokenizer.model"; UserError if missing."""
    directory = registry.find(name).directory(data_dir)
    path = os.path.join(directory, filename)
    if not os.path.isfile(path):
        have = ", ".join(sorted(os.listdir(directory))) if os.path.isdir(directory) else "nothing"
        raise UserError(f"no file {filename!r} in {directory!r} (it holds {have})")
    return path


def load(name: str, data_dir: str, split: str) -> Source:
    """Opens a split: "train", "validation" or "test".

    A record of earth_tiles is a dict (those of the others are told in the `parse` of their `record`
    module):
      id str · image PNG bytes, RGB 64 x 64 · captions list[str], all different, the fullest first
      lon, lat of the centre, degrees · bbox float32 [4]: W, S, E, N degrees, E beyond 180 where
      the tile crosses the antimeridian · landcover float32 [17], IGBP shares · label int, index
      into manifest["classes"], -1 ambiguous · dominant int, IGBP class · mask PNG bytes, uint8
      IGBP class of each pixel · climate str, Koppen code or "" · country, continent, city str
      phrases list[str] and boxes float32 [M, 4], pixels xmin, ymin, xmax, ymax · block int, split
      block · row, col int, top left corner in the mosaic.

    Raises UserError for a missing data set, an unknown split, a shard of the wrong size.
    """
    entry = registry.find(name)
    if entry.builder == registry.PAIRS:
        from rsvl_jax.datasets import ground_satellite_pairs

        return ground_satellite_pairs.load(entry.config, data_dir, split)
    counts = manifest(name, data_dir)["splits"]
    if split not in counts:
        raise UserError(f"unknown split {split!r} of {name!r}: it has {', '.join(counts)}")
    files = provenance(name, data_dir)["files"]
    shards = sorted(f for f in files if f"-{split}.array_record" in f)
    paths = [artifact(name, data_dir, shard) for shard in shards]
    for shard, path in zip(shards, paths, strict=True):
        if os.path.getsize(path) != files[shard]["bytes"]:
            raise UserError(
                f"shard {path!r} has {os.path.getsize(path)} bytes, not {files[shard]['bytes']}: "
                "delete its directory and build the data set again"
            )
    return _source(entry)(paths, counts[split])


def _source(entry: Entry) -> type[Source]:
    if entry.builder == registry.IMAGE_TEXT:
        from rsvl_jax.datasets.image_text.record import ImageText

        return ImageText
    if entry.builder != registry.ZOOM_PAIRS:
        return Source
    from rsvl_jax.datasets.zoom_pairs.record import ZoomPairs

    return ZoomPairs


def _not_built(entry: Entry, data_dir: str) -> str:
    how = f"build --data_dir={data_dir} --name={entry.name}"
    if entry.builder == registry.IMAGE_TEXT:
        how = f"build LAYOUT --source=... --data_dir={data_dir} --name={entry.config}"
    command = f"python -m rsvl_jax.datasets {how}"
    return f"no data set {entry.name!r} in {data_dir!r}: build it with '{command}'"


def is_whole(directory: str) -> bool:
    """Whether a data set is there; UserError where only a part of one is."""
    if os.path.isfile(os.path.join(directory, MANIFEST)):
        return True
    if os.path.isdir(directory) and os.listdir(directory):
        raise UserError(
            f"{directory!r} is half built (it has no {MANIFEST}): delete it and build again"
        )
    return False


def _build(entry: Entry, data_dir: str) -> None:
    from rsvl_jax.datasets import building  # TFDS and the rasters load only where they are needed

    staging = hidden(entry, data_dir, "building")
    if os.path.isdir(staging):
        print(f"clearing {staging}, left by a build that was stopped", file=sys.stderr)
        shutil.rmtree(staging)
    final = entry.directory(data_dir)
    print(f"building {entry.name} {entry.version} in {final}", file=sys.stderr)
    try:
        whole = building.build(entry, staging)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.replace(whole, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def hidden(entry: Entry, data_dir: str, purpose: str) -> str:
    """Path beside the data sets for what is no data set yet: "lock", "building"."""
    return os.path.join(
        registry.local(data_dir), f".{entry.builder}-{entry.config}-{entry.version}.{purpose}"
    )


@contextlib.contextmanager
def lock(path: str, *, wait: bool = True) -> Iterator[None]:
    """Holds a lock file; waits, and says so, while another process has it, or raises UserError."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise UserError(
                    "another process is building this data set: wait for it, or choose another "
                    "--name"
                ) from None
            print("another process is building this data set: waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def disk_errors(directory: str) -> Iterator[None]:
    """Full and read-only disks as one line; ArrayRecord reports them as a RuntimeError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write {error.filename or directory!r} ({reason}): make room or choose "
            "another data directory"
        ) from error
    except RuntimeError as error:
        if "No space left" not in str(error):
            raise
        raise UserError(
            f"cannot write {directory!r} (No space left on device): make room or choose another "
            "data directory"
        ) from error


def _read_json(name: str, data_dir: str, filename: str) -> dict[str, Any]:
    entry = registry.find(name)
    path = os.path.join(entry.directory(data_dir), filename)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError as error:
        is_whole(os.path.dirname(path))
        raise UserError(_not_built(entry, data_dir)) from error
    except ValueError as error:
        raise UserError(
            f"{path!r} is not JSON ({error}): delete its directory and build it again"
        ) from error
