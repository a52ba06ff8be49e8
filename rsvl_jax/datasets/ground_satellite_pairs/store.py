"""Opening a collection."""

import os

from rsvl_jax.datasets import registry, store
from rsvl_jax.datasets.ground_satellite_pairs.record import Pairs
from rsvl_jax.errors import UserError


def load(name: str, data_dir: str, split: str) -> Pairs:
    """Opens a split ("train", "validation", "test") of the collection called `name`.

    `datasets.manifest(f"ground_satellite_pairs/{name}", data_dir)` says what it is.
    Raises UserError for a missing collection, an unknown or empty split, a shard of wrong size.
    """
    entry = registry.pairs(name)
    if not os.path.isdir(entry.directory(data_dir)):
        raise UserError(
            f"no collection {name!r} in {data_dir!r}: collect it with "
            f"'python -m graft_jax.pairs --name={name} --data_dir={data_dir} ...'"
        )
    counts = store.manifest(entry.name, data_dir)["splits"]
    if not counts.get(split):
        have = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise UserError(f"split {split!r} of {entry.name!r} has no tiles: it has {have}")
    files = store.provenance(entry.name, data_dir)["files"]
    shards = sorted(f for f in files if f"-{split}.array_record" in f)
    paths = [store.artifact(entry.name, data_dir, shard) for shard in shards]
    for shard, path in zip(shards, paths, strict=True):
        if os.path.getsize(path) != files[shard]["bytes"]:
            raise UserError(
                f"shard {path!r} has {os.path.getsize(path)} bytes, not {files[shard]['bytes']}: "
                "delete its directory and collect the pairs again"
            )
    return Pairs(paths, counts[split])
