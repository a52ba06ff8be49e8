"""The photos as columns in memory, their texts in a file: ten million need no Python objects."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from graft_jax.pairs import columns, metadata
from graft_jax.pairs.counts import Counts
from graft_jax.pairs.hashing import hash_texts, mix
from graft_jax.pairs.settings import Settings
from rsvl_jax.errors import UserError

TEXTS = ("id", "path")
_ROWS = 1 << 16  # rows of a batch of the text file


@dataclass(frozen=True)
class Photos:
    """Photos, one entry each.

    Attributes:
      lon, lat: degrees, float64 [n].
      day: days since 1970 or `columns.NO_DATE`, int32 [n].
      key: hash of the id, uint64 [n].
      owner: hash of the owner, 0 where unknown, uint64 [n].
      row: row in the text file, int64 [n].
    """

    lon: np.ndarray
    lat: np.ndarray
    day: np.ndarray
    key: np.ndarray
    owner: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.lon)

    def take(self, index: np.ndarray) -> "Photos":
        """The photos at `index` (numbers or booleans)."""
        return Photos(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))

    def priority(self, seed: int) -> np.ndarray:
        """The order in which photos become centres and fill tiles, lowest first: uint64 [n].

        A hash of the id, so it depends neither on the order of the files nor on their cutting.
        """
        return mix(self.key ^ mix(np.array([seed], np.uint64)))


def read(settings: Settings, text_file: str, counts: Counts) -> Photos:
    """Reads all metadata once, counting and leaving out what single rows tell is unfit.

    text_file: where id and path of the photos kept are written (Arrow IPC).
    Raises UserError if nothing is left, or most rows have longitude and latitude swapped.
    """
    writer = _TextWriter(text_file)
    outdoor = _outdoor(settings.outdoor)
    parts: list[Photos] = []
    sources = metadata.sources(settings.photos)
    if not settings.photos_dir and len({os.path.isdir(source) for source in sources}) == 2:
        raise UserError("photos of a folder go with images, those of a table too: add --photos_dir")
    bar = tqdm(desc="reading photos", unit=" photos", unit_scale=True)
    with writer, bar:
        for source in sources:
            for chunk in metadata.read(source, settings.columns, outdoor.columns, counts):
                _resolve_paths(chunk, source, settings)
                parts.append(_keep(chunk, settings, outdoor, writer, counts))
                bar.update(len(chunk["id"]))
    skipped = counts.skipped("photo")
    if skipped.get(SWAPPED, 0) > counts.photos_read / 2:
        raise UserError(
            f"{skipped[SWAPPED]} of {counts.photos_read} photos have a latitude beyond 90: swap "
            "them with --columns=lon=LATITUDE_COLUMN,lat=LONGITUDE_COLUMN"
        )
    photos = _concatenate(parts)
    if not len(photos):
        raise UserError(f"no photo is left of {counts.photos_read}: {_reasons(skipped)}")
    return photos


SWAPPED = "longitude and latitude look swapped"


def _keep(
    chunk: dict[str, pa.Array],
    settings: Settings,
    outdoor: "_Outdoor",
    writer: "_TextWriter",
    counts: Counts,
) -> Photos:
    lon, lat = columns.numbers(chunk["lon"]), columns.numbers(chunk["lat"])
    blank = columns.days(pa.nulls(len(lon), pa.string()))
    day = columns.days(chunk["date"]) if "date" in chunk else blank
    kept = np.ones(len(lon), bool)
    for reason, bad in (*_bad_places(lon, lat), *_bad_days(day, settings)):
        counts.skip("photo", reason, np.sum(kept & bad))
        kept &= ~bad
    for reason, bad in _unfit(chunk, settings):
        counts.skip("photo", reason, np.sum(kept & bad))
        kept &= ~bad
    kept = _out_of_doors(chunk, kept, settings, outdoor, counts)
    mask = pa.array(kept)
    texts = {
        name: columns.texts(chunk[name]).filter(mask)
        if name in chunk
        else pa.array([""] * int(kept.sum()), pa.large_string())
        for name in TEXTS
    }
    owner = chunk["owner"].filter(mask) if "owner" in chunk else None
    return Photos(
        lon[kept],
        lat[kept],
        day[kept],
        hash_texts(texts["id"]),
        np.zeros(int(kept.sum()), np.uint64) if owner is None else hash_texts(columns.texts(owner)),
        writer.add(texts),
    )


def _resolve_paths(chunk: dict[str, pa.Array], source: str, settings: Settings) -> None:
    """Makes paths of tables relative to --photos_dir; without it their photos are not stored."""
    if os.path.isdir(source):
        return
    if not settings.photos_dir:
        chunk.pop("path", None)
    elif "path" in chunk:
        folder, slash = (pa.scalar(t, pa.large_string()) for t in (settings.photos_dir, os.sep))
        path = columns.texts(chunk["path"])
        joined = pc.binary_join_element_wise(folder, path, slash)
        chunk["path"] = pc.if_else(pc.equal(path, ""), "", joined)
    else:
        raise UserError(
            f"--photos_dir={settings.photos_dir!r}, but {source!r} has no column of paths: name "
            "it with --columns=path=NAME"
        )


def _bad_places(lon: np.ndarray, lat: np.ndarray):
    known = np.isfinite(lon) & np.isfinite(lat) & ((lon != 0) | (lat != 0))
    yield "no coordinates", ~known
    swapped = (np.abs(lat) > 90) & (np.abs(lat) <= 180) & (np.abs(lon) <= 90)
    yield SWAPPED, swapped
    yield "coordinates out of range", (np.abs(lat) > 90) | (np.abs(lon) > 180)


def _bad_days(day: np.ndarray, settings: Settings):
    first, last = settings.days
    today = Settings.today()
    yield "impossible date", (day == columns.IMPOSSIBLE) | (day > today)
    if settings.season != "none" or settings.since or settings.until:
        yield "no date", day == columns.NO_DATE
        yield "outside the dates wanted", (day < first) | (day > last)


def _unfit(chunk: dict[str, pa.Array], settings: Settings):
    yield "no id", pc.equal(columns.texts(chunk["id"]), "").to_numpy(zero_copy_only=False)
    if "path" in chunk:
        yield "no path", pc.equal(columns.texts(chunk["path"]), "").to_numpy(zero_copy_only=False)
    if "marker" in chunk:
        yield "a video", columns.numbers(chunk["marker"]) == 1
    if "accuracy" in chunk:
        level = columns.numbers(chunk["accuracy"])
        yield "geolocation not accurate enough", ~(level >= settings.min_accuracy)
    if "error" in chunk:
        yield (
            "geolocation not accurate enough",
            columns.numbers(chunk["error"]) > settings.max_error,
        )
    if "width" in chunk and "height" in chunk:
        side = np.fmin(columns.numbers(chunk["width"]), columns.numbers(chunk["height"]))
        yield "too small", side < settings.min_side


def _out_of_doors(chunk, kept, settings: Settings, outdoor: "_Outdoor", counts: Counts):
    if not settings.outdoor or not kept.any():
        return kept
    scores = np.full(len(kept), np.nan)
    mask = pa.array(kept)
    scores[kept] = outdoor.score({name: column.filter(mask) for name, column in chunk.items()})
    indoors = kept & ~(scores >= settings.outdoor_min)
    counts.skip("photo", "indoors", indoors.sum())
    return kept & ~indoors


@dataclass(frozen=True)
class _Outdoor:
    """Gives outdoor scores, and says which further columns of the table that needs."""

    columns: tuple[str, ...]
    score: Callable[[dict[str, pa.Array]], np.ndarray]


def _outdoor(name: str) -> _Outdoor:
    """A score column, or `module:function` from a dict of Arrow columns to float [n]."""
    if ":" not in name:
        return _Outdoor((name,) if name else (), lambda chunk: columns.numbers(chunk[name]))
    module, _, function = name.partition(":")
    try:
        score = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UserError(f"--outdoor={name!r} cannot be loaded: {error}") from error

    def checked(chunk: dict[str, pa.Array]) -> np.ndarray:
        scores = np.asarray(score(chunk), np.float64)
        if scores.shape != (len(chunk["id"]),):
            raise UserError(
                f"--outdoor={name!r} gave scores of shape {scores.shape} for {len(chunk['id'])} "
                "photos: it must give one number a photo"
            )
        return scores

    return _Outdoor((), checked)


class _TextWriter:
    """Writes the texts of photos as uncompressed Arrow batches of `_ROWS` rows."""

    def __init__(self, path: str):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        schema = pa.schema([(name, pa.large_string()) for name in TEXTS])
        self._file = pa.OSFile(path, "wb")
        self._writer = pa.ipc.new_file(self._file, schema)
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> "_TextWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush(1)
        self._writer.close()
        self._file.close()

    def add(self, texts: dict[str, pa.Array]) -> np.ndarray:
        """Appends rows and returns their numbers, int64."""
        table = pa.table(texts)
        first, self._rows = self._rows, self._rows + table.num_rows
        self._waiting.append(table)
        if sum(t.num_rows for t in self._waiting) >= _ROWS:
            self._flush(_ROWS)
        return np.arange(first, self._rows)

    def _flush(self, least: int) -> None:
        table = pa.concat_tables(self._waiting).combine_chunks() if self._waiting else None
        while table is not None and table.num_rows >= least:
            self._writer.write_table(table.slice(0, _ROWS), max_chunksize=_ROWS)
            table = table.slice(_ROWS)
        self._waiting = [table] if table is not None and table.num_rows else []


class TextReader:
    """Random access to the texts, through a memory map: what is not asked for is not read."""

    def __init__(self, path: str):
        self._reader = pa.ipc.open_file(pa.memory_map(path))

    def take(self, rows: np.ndarray) -> dict[str, pa.Array]:
        """id and path at `rows` (int64), in that order."""
        order = np.argsort(rows, kind="stable")
        batch, inside = np.divmod(rows[order], _ROWS)
        parts = [
            self._reader.get_batch(int(number)).take(pa.array(inside[batch == number]))
            for number in np.unique(batch)
        ]
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        table = pa.Table.from_batches(parts, self._reader.schema).combine_chunks()
        return {n: table.column(n).take(pa.array(back)).combine_chunks() for n in TEXTS}


def _concatenate(parts: Sequence[Photos]) -> Photos:
    names = [f.name for f in dataclasses.fields(Photos)]
    if not parts:
        empty = np.zeros(0)
        return Photos(*[empty] * len(names))
    return Photos(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _reasons(skipped: dict[str, int]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in skipped.items()) or "none was read"
