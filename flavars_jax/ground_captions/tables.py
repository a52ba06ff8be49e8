"""Rows of a table: JSON lines, CSV or Parquet, with images in files."""

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flavars_jax.ground_captions.rows import Row, Unreadable, tags
from rsvl_jax.errors import UserError

# The names of a column, the first that is there; SkyScript's among them.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "key"),
    "image": ("image", "filepath", "path", "filename"),
    "caption": ("caption", "title_multi_objects", "title", "text"),
    "tags": ("tags",),
    "lon": ("lon", "longitude"),
    "lat": ("lat", "latitude"),
    "split": ("split",),
}
SUFFIXES = (".jsonl", ".csv", ".tsv", ".parquet")
_LONGEST_FIELD = 1 << 24  # characters of a CSV field; the reader's own limit is 128 Ki
_NEEDED = ("image", "caption")


@dataclass(frozen=True)
class Table:
    """The rows of `path`, by the suffix of its name.

    images_dir: what paths of images are relative to, "" for the folder of the table. columns:
    field (see `ALIASES`) -> name of its column, where it has another one. Without a column for it,
    the id of a row is the path of its image.

    Raises UserError for a file that is not there, an unknown suffix or field.
    """

    path: str
    images_dir: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.endswith(SUFFIXES):
            raise UserError(f"--input={self.path!r}: give a table that ends {', '.join(SUFFIXES)}")
        if not os.path.isfile(self.path):
            raise UserError(f"--input={self.path!r}: there is no such file")
        for name in self.columns.keys() - ALIASES.keys():
            raise UserError(f"--columns={name}=...: a row has {', '.join(ALIASES)}")

    def __iter__(self) -> Iterator[Row | Unreadable]:
        checked = False
        for number, values in self._lines():
            if isinstance(values, str):
                yield Unreadable(f"line {number}", values)
                continue
            if not checked:
                self._check_columns(values)
                checked = True
            yield self._row(number, values)

    def picture(self, row: Row) -> bytes:
        """The content of the row's image file; OSError where it cannot be read."""
        with open(row.image["path"], "rb") as file:
            return file.read()

    def describe(self) -> dict[str, Any]:
        """The table, where its images lie, and its columns."""
        return {"table": os.path.abspath(self.path), "images": self._folder, **self.columns}

    @property
    def _folder(self) -> str:
        return os.path.abspath(self.images_dir or os.path.dirname(self.path))

    def _lines(self) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
        """Number (from 1, as editors count) and values of each line, or why it has none."""
        if self.path.endswith(".parquet"):
            yield from enumerate(_parquet(self.path), 1)
        elif self.path.endswith(".jsonl"):
            yield from _json_lines(self.path)
        else:
            yield from _csv(self.path)

    def _row(self, number: int, values: Mapping[str, Any]) -> Row | Unreadable:
        found = {name: self._value(name, values) for name in ALIASES}
        line = f"line {number}"
        for name in _NEEDED:
            if not str(found[name] or "").strip():
                return Unreadable(str(found["id"] or line), f"{name} is missing", line)
        image = str(found["image"])
        return Row(
            id=str(found["id"] or image),
            image={"path": os.path.join(self._folder, image)},
            caption=str(found["caption"]),
            tags=tags(found["tags"]),
            lon=_degrees(found["lon"]),
            lat=_degrees(found["lat"]),
            split=str(found["split"] or ""),
        )

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        names = (self.columns[name],) if name in self.columns else ALIASES[name]
        return next((values[n] for n in names if values.get(n) is not None), None)

    def _check_columns(self, values: Mapping[str, Any]) -> None:
        for name in _NEEDED:
            names = (self.columns[name],) if name in self.columns else ALIASES[name]
            if not any(n in values for n in names):
                have = ", ".join(repr(key) for key in values if key is not None)
                raise UserError(
                    f"{self.path!r} has no column {names[0]!r}; it has {have}: name it with "
                    f"--columns={name}=NAME"
                )


def _degrees(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _json_lines(path: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                values = json.loads(line)
            except ValueError:
                values = None
            yield number, values if isinstance(values, dict) else "line is no JSON object"


def _csv(path: str) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    csv.field_size_limit(_LONGEST_FIELD)
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        clean = (line.replace("\0", "") for line in file)
        reader = csv.DictReader(clean, delimiter="\t" if path.endswith(".tsv") else ",")
        for values in reader:
            yield reader.line_num, values


def _parquet(path: str) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa  # extra `geo`
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path!r} is no readable Parquet file: {error}") from error
