"""What a collection came to: read back from its shards, written as JSON, told in a few lines."""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from tqdm import tqdm

from graft_jax.pairs import blocks
from graft_jax.pairs.counts import Counts
from graft_jax.pairs.hashing import hash_texts
from graft_jax.pairs.rasters import Raster
from graft_jax.pairs.settings import SPLITS, Settings
from rsvl_jax.datasets.ground_satellite_pairs import Pairs

FILE, TABLE = "summary.json", "pairs.parquet"
_BATCH = 2048
_SCHEMA = pa.schema(
    [("split", pa.string()), ("tile_id", pa.string()), ("tile_date", pa.string())]
    + [(name, pa.float64()) for name in ("tile_lon", "tile_lat")]
    + [("photo_id", pa.string()), ("photo_date", pa.string())]
    + [(name, pa.float64()) for name in ("photo_lon", "photo_lat")]
    + [(name, pa.float32()) for name in ("x", "y")]
)


@dataclasses.dataclass(frozen=True)
class Facts:
    """The tiles that were written: split int8 [T], lon, lat degrees, photos of each int [T]."""

    split: np.ndarray
    lon: np.ndarray
    lat: np.ndarray
    photos: np.ndarray
    different_photos: int
    without_centre: int


def facts(directory: str) -> Facts:
    """Reads every record back, writes the table of all pairs, and proves the splits apart."""
    rows: list[tuple] = []
    keys, boxes = [], []
    centred = 0
    path = os.path.join(directory, TABLE)
    with pyarrow.parquet.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        for number, name in enumerate(SPLITS):
            for record in tqdm(_open(directory, name), f"checking {name}", leave=False):
                rows.append((number, record["lon"], record["lat"], len(record["photo_ids"])))
                keys.append(hash_texts(pa.array(record["photo_ids"])))
                boxes.append(record["footprint"])
                at = (record["photo_lon"] == record["lon"]) & (record["photo_lat"] == record["lat"])
                centred += bool(at.any())
                waiting.append(_pairs(name, record))
                if len(waiting) == _BATCH:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))
    table = np.array(rows)
    split, photos, key = table[:, 0].astype(np.int8), table[:, 3].astype(int), np.concatenate(keys)
    tile_of = np.repeat(np.arange(len(photos)), photos)
    blocks.assert_apart(split=split, box=np.stack(boxes, dtype=float), tile_of=tile_of, photo=key)
    return Facts(
        split, table[:, 1], table[:, 2], photos, len(np.unique(key)), len(photos) - centred
    )


def _open(directory: str, split: str) -> Pairs:
    shards = sorted(f for f in os.listdir(directory) if f"-{split}.array_record" in f)
    paths = [os.path.join(directory, shard) for shard in shards]
    return Pairs(paths, len(Pairs(paths, 0)._open()) if paths else 0)


def _pairs(split: str, record: dict[str, Any]) -> pa.Table:
    count = len(record["photo_ids"])
    columns = {
        "split": [split] * count,
        "tile_id": [record["id"]] * count,
        "tile_date": [record["date"]] * count,
        "tile_lon": [record["lon"]] * count,
        "tile_lat": [record["lat"]] * count,
        "photo_id": record["photo_ids"],
        "photo_date": record["photo_dates"],
        "photo_lon": record["photo_lon"],
        "photo_lat": record["photo_lat"],
        "x": record["photo_xy"][:, 0],
        "y": record["photo_xy"][:, 1],
    }
    return pa.table(columns, schema=_SCHEMA)


def write(
    directory: str,
    settings: Settings,
    counts: Counts,
    planned: dict[str, int],
    facts: Facts,
    images: Sequence[Raster],
) -> dict[str, Any]:
    """Writes summary.json and returns its content."""
    found = {
        "photos": {
            "read": counts.photos_read,
            "planned": planned["photos"],
            "in_tiles": facts.different_photos,
            "skipped": counts.skipped("photo"),
        },
        "tiles": {
            "planned": planned["tiles"],
            "written": {s: int(np.sum(facts.split == n)) for n, s in enumerate(SPLITS)},
            "without_centre_photo": facts.without_centre,
            "skipped": counts.skipped("tile"),
        },
        "pairs": {
            "all": int(facts.photos.sum()),
            **{s: int(facts.photos[facts.split == n].sum()) for n, s in enumerate(SPLITS)},
        },
        "photos_per_tile": {
            "mean": round(float(facts.photos.mean()), 3),
            "median": float(np.median(facts.photos)),
            "most": int(facts.photos.max()),
        },
        "rasters": {"used": len(images), "skipped": counts.skipped("raster")},
        "problems": counts.problems,
        "settings": settings.recorded(),
    }
    with open(os.path.join(directory, FILE), "w", encoding="utf-8") as file:
        json.dump(found, file, indent=2)
        file.write("\n")
    return found


def lines(summary: dict[str, Any]) -> list[str]:
    """The summary as people read it."""
    photos, tiles, pairs = summary["photos"], summary["tiles"], summary["pairs"]
    written = ", ".join(f"{count:,} {split}" for split, count in tiles["written"].items())
    per_tile = summary["photos_per_tile"]
    told = [
        f"{pairs['all']:,} pairs: {photos['in_tiles']:,} of {photos['read']:,} photos "
        f"on {sum(tiles['written'].values()):,} tiles ({written})",
        f"photos per tile: mean {per_tile['mean']:.2f}, median {per_tile['median']:g}, "
        f"most {per_tile['most']}",
    ]
    for kind in ("photos", "tiles", "rasters"):
        for reason, number in summary[kind]["skipped"].items():
            told.append(f"left out: {number:,} {kind if number > 1 else kind[:-1]}: {reason}")
    if tiles["without_centre_photo"]:
        told.append(f"{tiles['without_centre_photo']:,} tiles lost the photo at their centre")
    return told + [f"note: {line}" for line in summary["problems"][:10]]
