"""Parquet tables of images and captions, as Hugging Face's and img2dataset's: a file or many."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsvl_jax.datasets.image_text.reader import Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import fields, files, patterns
from rsvl_jax.errors import UserError

# field -> names that its column goes by, the first that the table has being taken
_COLUMNS = {
    "image": ("image", "img", "jpg", "png", "image_path", "filepath", "path", "file_name"),
    "caption": ("captions", "caption", "text", "title", "sentences"),
    "lon": ("lon", "longitude", "lng"),
    "lat": ("lat", "latitude"),
    "split": ("split",),
    "label": ("label", "class"),
    "time": ("time", "date"),
    "gsd": ("gsd",),
    "key": ("key", "id", "image_id", "__key__"),
}
_NEEDED = ("image", "caption")
_CHUNK = 256, 8192  # rows, at least and at most, that are read at a time


class Parquet(Reader):
    """Rows of Parquet files; an image is bytes, a path, or Hugging Face's {"bytes", "path"}.

    Row groups are read whole, in order.
    """

    layout = "parquet"
    help = "Parquet tables with images (bytes or paths) and captions"
    random_access = False

    def __init__(self, paths: Sequence[str], images: str, keys: Mapping[str, str]):
        """images: folder of relative paths. keys: field -> column that is not called as usual."""
        self.paths, self.images = list(paths), images
        first = _open(self.paths[0])
        names = first.schema_arrow.names
        self.columns = _chosen(self.paths[0], names, keys)
        rows = first.metadata.row_group(0).num_rows if first.metadata.num_row_groups else 0
        self.chunk = int(np.clip(rows, *_CHUNK))
        self.classes = _class_names(first.schema_arrow, self.columns.get("label", ""))
        self._groups = np.zeros((0, 3), np.int64)
        self._table: tuple[int, Any] = (-1, None)
        self._file: tuple[int, Any] = (-1, None)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Names of columns."""
        add = parser.add_argument
        add("--images", default="", help="folder of relative image paths [that of the file]")
        for name, usual in _COLUMNS.items():
            add(f"--{name}_key", default="", help=f"column of {name} [{', '.join(usual)}]")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Parquet":
        """--source is a file, a folder of them, or a pattern."""
        paths = patterns.find(arguments.source, (".parquet",))
        keys = {name: getattr(arguments, f"{name}_key") for name in _COLUMNS}
        return cls(paths, arguments.images or os.path.dirname(paths[0]), keys)

    def describe(self) -> dict[str, Any]:
        """The files and which columns are read."""
        return {
            "files": len(self.paths),
            "first": self.paths[0],
            "images": os.path.abspath(self.images),
            "columns": self.columns,
        }

    def files(self) -> list[str]:
        """The tables."""
        return self.paths

    def prepare(self, folder: str) -> None:
        """Where each row group begins: file, group, first row."""
        groups, row = [], 0
        for number, path in enumerate(self.paths):
            table = _open(path)
            missing = set(self.columns.values()) - set(table.schema_arrow.names)
            if missing:
                raise UserError(
                    f"{path!r} has no column {min(missing)!r}, as {self.paths[0]!r} has"
                )
            for group in range(table.metadata.num_row_groups):
                groups.append((number, group, row))
                row += table.metadata.row_group(group).num_rows
        groups.append((0, 0, row))
        np.save(os.path.join(folder, "groups.npy"), np.array(groups, np.int64))

    def open(self, folder: str) -> None:
        """Opens the index."""
        self._groups = np.load(os.path.join(folder, "groups.npy"))

    def __len__(self) -> int:
        return int(self._groups[-1, 2])

    def read(self, index: int) -> Row:
        """A row; its row group stays read for the next."""
        at = int(np.searchsorted(self._groups[:-1, 2], index, side="right")) - 1
        table = self._group(at)
        place = index - int(self._groups[at, 2])
        given = {name: table[column][place].as_py() for name, column in self.columns.items()}
        path, data = _image(given["image"])
        number = int(self._groups[at, 0])
        unnamed = f"{os.path.basename(self.paths[number])}/{index - self._first(number)}"
        return Row(
            key=str(given.get("key") or path or unnamed),
            image=files.read(self.images, path) if data is None else data,
            captions=_captions(given["caption"]) if "caption" in given else (),
            lon=_number(given, "lon"),
            lat=_number(given, "lat"),
            gsd=_number(given, "gsd"),
            time="" if given.get("time") is None else str(given["time"]),
            label=self._label(given.get("label")),
            split=fields.split(str(given.get("split") or _split(self.paths[number]))),
        )

    def _first(self, number: int) -> int:
        """Number of the first row of a file."""
        return int(self._groups[np.searchsorted(self._groups[:-1, 0], number), 2])

    def _group(self, at: int) -> Any:
        if self._table[0] != at:
            number, group, _ = self._groups[at].tolist()
            self._table = -1, None  # two groups at once are never in memory
            try:
                if self._file[0] != number:
                    self._file = number, _open(self.paths[number])
                table = self._file[1].read_row_group(group, columns=list(self.columns.values()))
            except (OSError, ValueError, UserError) as error:  # ArrowInvalid is a ValueError
                name = os.path.basename(self.paths[number])
                raise Drop("row group cannot be read", f"{name}, group {group}: {error}") from error
            self._table = at, table
        return self._table[1]

    def _label(self, value: Any) -> int:
        if isinstance(value, str):
            return self.classes.index(value) if value in self.classes else -1
        return int(value) if isinstance(value, int) and 0 <= value < len(self.classes) else -1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_table": (-1, None), "_file": (-1, None)}


def _open(path: str) -> Any:
    try:
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise UserError("reading Parquet needs pyarrow: pip install pyarrow") from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path!r} is no whole Parquet file: {_line(error)}") from error


def _chosen(path: str, names: Sequence[str], keys: Mapping[str, str]) -> dict[str, str]:
    """Field -> column."""
    found = {}
    for name, usual in _COLUMNS.items():
        wanted = (keys[name],) if keys.get(name) else usual
        column = next((one for one in wanted if one in names), None)
        if column is not None:
            found[name] = column
        elif keys.get(name) or name in _NEEDED:
            raise UserError(
                f"{path!r} has no column {' or '.join(map(repr, wanted))}, but "
                f"{', '.join(map(repr, names))}: name the right one with --{name}_key"
            )
    return found


def _class_names(schema: Any, column: str) -> list[str]:
    """Names of the labels as Hugging Face's metadata has them; [] for none."""
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return [str(name) for name in told["info"]["features"][column]["names"]]
    except (ValueError, KeyError, TypeError):
        return []


def _image(value: Any) -> tuple[str, bytes | None]:
    """Path and bytes of what stands in the image's column."""
    if isinstance(value, bytes):
        return "", value
    if isinstance(value, Mapping):
        path, data = value.get("path"), value.get("bytes")
        return (path if isinstance(path, str) else ""), data if isinstance(data, bytes) else None
    return (value if isinstance(value, str) else ""), None


def _captions(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise Drop("caption is missing", type(value).__name__)
    texts = [one.get("raw", "") if isinstance(one, Mapping) else one for one in value]
    return [str(text) for text in texts if text is not None]


def _number(given: Mapping[str, Any], name: str) -> float | None:
    value = given.get(name)
    return None if value is None else fields.number(str(value), name)


def _split(path: str) -> str:
    """The split in a file's name, as Hugging Face has it: "train-00000-of-00004.parquet"."""
    word = os.path.basename(path).split("-")[0]
    return word if fields.split(word) in ("train", "validation", "test") else ""


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
