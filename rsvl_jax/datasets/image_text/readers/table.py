"""A CSV with paths of images and captions, as open_clip trains on; places and splits if it has any.

Rows of one image become one record with all their captions.
"""

import argparse
import copy
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsvl_jax.datasets.image_text.reader import Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import fields, files
from rsvl_jax.datasets.image_text.readers.lines import Lines
from rsvl_jax.errors import UserError

# column -> names that it goes by, the first that the file has being taken
_IMAGE = ("filepath", "image", "image_path", "filename", "file_name", "path", "img")
_CAPTION = ("title", "caption", "text", "captions", "sentence")
_OPTIONAL = {
    "lon": ("lon", "longitude", "lng"),
    "lat": ("lat", "latitude"),
    "box": ("box", "bbox"),
    "split": ("split",),
    "label": ("label", "class"),
    "time": ("time", "date"),
    "gsd": ("gsd",),
    "phrases": ("phrases",),
    "boxes": ("boxes",),
}
_FLAGS = {
    "image_key": "csv-img-key",
    "caption_key": "csv-caption-key",
    "separator": "csv-separator",
}
_CLASSES = 100_000


class Table(Reader):
    """Rows of a delimited file, put together by image."""

    layout = "csv"
    help = "a CSV or TSV of image paths and captions, as open_clip takes"

    def __init__(self, path: str, images: str, keys: Mapping[str, str], **how: str):
        """images: folder of relative paths. keys: names of columns where they are not the usual
        ones; several captions are joined by commas. how: separator, encoding."""
        self.lines = Lines(path, **how)
        self.images, self.how = images, how
        column = self.lines.column
        self.image = column(keys.get("image") or _IMAGE, "image_key")
        named = keys.get("caption", "").split(",") if keys.get("caption") else [_CAPTION]
        self.captions = [column(names, "caption_key") for names in named]
        self.columns = {
            name: column(keys.get(name) or names, f"{name}_key")
            for name, names in _OPTIONAL.items()
            if keys.get(name) or set(names) & set(self.lines.columns)
        }
        self._labels: dict[str, int] = {}
        self._rows, self._firsts = np.zeros(0, np.int64), np.zeros(1, np.int64)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Names of columns; open_clip's flags are taken, too."""
        add = parser.add_argument
        add("--images", default="", help="folder of relative image paths [that of the CSV]")
        for flag, other in _FLAGS.items():
            add(f"--{flag}", f"--{other}", default="", help=f"as open_clip's --{other}")
        for name in _OPTIONAL:
            add(f"--{name}_key", default="", help=f"column of {name}, if it has another name")
        add("--encoding", default="utf-8", help="of the file, such as gb18030 [utf-8]")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Table":
        """--source is the file."""
        path, separator = arguments.source, arguments.separator.replace("\\t", "\t")
        if os.path.isdir(path):
            raise UserError(f"--source={path!r} is a folder: give the CSV, and --images=FOLDER")
        if len(separator) > 1:
            raise UserError(f"--separator={separator!r}: give one character")
        keys = {
            name: getattr(arguments, f"{name}_key") for name in ("image", "caption", *_OPTIONAL)
        }
        images = arguments.images or os.path.dirname(os.path.abspath(path))
        return cls(path, images, keys, separator=separator, encoding=arguments.encoding)

    def describe(self) -> dict[str, Any]:
        """The file and which columns are read."""
        return {
            "csv": os.path.abspath(self.lines.path),
            "images": os.path.abspath(self.images),
            "columns": {"image": self.image, "captions": self.captions, **self.columns},
            "separator": self.lines.separator,
            "encoding": self.lines.encoding,
        }

    def files(self) -> list[str]:
        """The file; images are not looked at one by one."""
        return [self.lines.path]

    def prepare(self, folder: str) -> None:
        """Where rows are, which of them share an image, and the names of the labels."""
        lines = copy.copy(self.lines)  # the reader itself stays closed, to be sent to workers
        lines.prepare(os.path.join(folder, "lines.npy"))
        lines.open(os.path.join(folder, "lines.npy"))
        names, labels = self._names(lines)
        if len(labels) > _CLASSES:
            raise UserError(
                f"{self.lines.path!r} has {len(labels)} different labels in column "
                f"{self.columns['label']!r}: name another with --label_key"
            )
        rows, firsts = _grouped(names)
        np.save(os.path.join(folder, "rows.npy"), rows)
        np.save(os.path.join(folder, "firsts.npy"), firsts)
        with open(os.path.join(folder, "classes.json"), "w", encoding="utf-8") as file:
            json.dump(sorted(labels), file)

    def _names(self, lines: Lines) -> tuple[np.ndarray, set[str]]:
        """Hash of each row's image, uint64 [rows], and all labels."""
        names, labels = np.zeros(len(lines), np.uint64), set()
        for row in range(len(lines)):
            try:
                given = lines.read(row)
            except Drop:
                names[row] = row  # alone, to be dropped when it is read
                continue
            names[row] = files.hashed(given[self.image])
            if "label" in self.columns:
                labels.add(given[self.columns["label"]].strip())
        return names, labels - {""}

    def open(self, folder: str) -> None:
        """Opens the file and what was noted about it."""
        self.lines.open(os.path.join(folder, "lines.npy"))
        self._rows = np.load(os.path.join(folder, "rows.npy"), mmap_mode="r")
        self._firsts = np.load(os.path.join(folder, "firsts.npy"), mmap_mode="r")
        with open(os.path.join(folder, "classes.json"), encoding="utf-8") as file:
            self.classes = json.load(file)
        self._labels = {name: number for number, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self._firsts) - 1

    def read(self, index: int) -> Row:
        """An image with the captions of all its rows; all else is from the first of them."""
        start, end = int(self._firsts[index]), int(self._firsts[index + 1])
        rows = [self.lines.read(int(row)) for row in self._rows[start:end]]
        given = {name: rows[0][column] for name, column in self.columns.items()}
        path = rows[0][self.image]
        return Row(
            key=path,
            image=files.read(self.images, path),
            captions=[row[name] for row in rows for name in self.captions],
            lon=fields.number(given.get("lon", ""), "lon"),
            lat=fields.number(given.get("lat", ""), "lat"),
            box=fields.box(given.get("box", ""), "box"),
            gsd=fields.number(given.get("gsd", ""), "gsd"),
            time=given.get("time", ""),
            label=self._labels.get(given.get("label", "").strip(), -1),
            split=fields.split(given.get("split", "")),
            notes=("row put together with the first of its image",) * (len(rows) - 1),
            **fields.regions(given.get("phrases", ""), given.get("boxes", "")),
        )


def _grouped(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of equal names side by side, in order of their first, and where each group begins."""
    _, first, group = np.unique(names, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    rows = np.argsort(place[group], kind="stable")
    return rows, np.concatenate([[0], np.cumsum(np.bincount(place[group], minlength=len(first)))])
