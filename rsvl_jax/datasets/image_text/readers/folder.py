"""Folders of images: a folder a class, or a text or JSON file of its stem beside each image."""

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from rsvl_jax.datasets.image_text.reader import SPLITS, Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import fields, files
from rsvl_jax.errors import UserError

IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
_LABELS = ("auto", "folder", "none")
_TEXT = 2**20  # bytes of a caption file that are read


class Folder(Reader):
    """All images below a folder, by path."""

    layout = "folder"
    help = "folders of images: one a class, or with .txt or .json beside each image"

    def __init__(self, source: str, labels: str, caption: str, encoding: str):
        """labels: "folder", the names of the folders are classes; "none"; "auto": classes where
        no text stands beside the images. caption: template with {c}, for images without text."""
        self.source, self.labels, self.caption = source, labels, caption
        self.encoding = encoding
        self._labels: dict[str, int] = {}
        self._starts = np.zeros(1, np.int64)
        self._paths: BinaryIO | None = None

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Where captions and labels come from."""
        add = parser.add_argument
        add("--labels", choices=_LABELS, default="auto", help="whether folders are classes [auto]")
        add(
            "--caption",
            default="a satellite image of {c}.",
            help='of an image without text, {c} its class; "": it is dropped',
        )
        add("--encoding", default="utf-8", help="of the text files [utf-8]")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Folder":
        """--source is the folder; train/, val/, test/ in it are splits."""
        if not os.path.isdir(arguments.source):
            raise UserError(f"--source={arguments.source!r} is no folder")
        source = os.path.abspath(arguments.source)
        return cls(source, arguments.labels, arguments.caption, arguments.encoding)

    def describe(self) -> dict[str, Any]:
        """The folder and where captions come from."""
        return {
            "folder": self.source,
            "labels": self.labels,
            "caption": self.caption,
            "encoding": self.encoding,
        }

    def files(self) -> list[str]:
        """The folder and those in it."""
        inner = sorted(e.path for e in os.scandir(self.source) if e.is_dir())
        return [self.source, *inner]

    def prepare(self, folder: str) -> None:
        """Lists the images, in order of their paths, and the classes."""
        starts, place, classes, texts = [0], 0, set(), False
        with open(os.path.join(folder, "paths"), "wb") as file:
            for path, has_text in _images(self.source, ""):
                data = os.fsencode(path)
                place += file.write(data)
                starts.append(place)
                texts = texts or has_text
                classes.add(_class(path))
        if len(starts) == 1:
            raise UserError(f"no image in {self.source!r}: looked for {', '.join(IMAGES)}")
        np.save(os.path.join(folder, "starts.npy"), np.array(starts, np.int64))
        labelled = self.labels == "folder" or (self.labels == "auto" and not texts)
        with open(os.path.join(folder, "classes.json"), "w", encoding="utf-8") as file:
            json.dump(sorted(classes - {""}) if labelled else [], file)

    def open(self, folder: str) -> None:
        """Opens the list."""
        self._starts = np.load(os.path.join(folder, "starts.npy"), mmap_mode="r")
        self._paths = open(os.path.join(folder, "paths"), "rb")  # noqa: SIM115 for good
        with open(os.path.join(folder, "classes.json"), encoding="utf-8") as file:
            self.classes = json.load(file)
        self._labels = {name: number for number, name in enumerate(self.classes)}

    def __len__(self) -> int:
        return len(self._starts) - 1

    def read(self, index: int) -> Row:
        """An image with what stands beside it; raises Drop where that cannot be read."""
        assert self._paths is not None, "open first"
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        self._paths.seek(start)
        path = os.fsdecode(self._paths.read(end - start))
        name = _class(path)
        found = self._beside(os.path.splitext(path)[0])
        if not found.get("captions") and name and self.caption:
            found["captions"] = [self.caption.format(c=name.replace("_", " "))]
        own = found.pop("split", "")
        return Row(
            key=path,
            image=files.read(self.source, path),
            label=self._labels.get(name, -1),
            split=own or _split(path),
            **found,
        )

    def _beside(self, stem: str) -> dict[str, Any]:
        """Fields from STEM.json and captions, one a line, from STEM.txt."""
        found: dict[str, Any] = {}
        data = _read(os.path.join(self.source, f"{stem}.json"))
        if data is not None:
            try:
                given = json.loads(data)
            except ValueError as error:
                raise Drop("JSON beside the image cannot be read", f"{stem}: {error}") from error
            if not isinstance(given, dict):
                raise Drop("JSON beside the image is no object", stem)
            found = fields.of_mapping(given)
        data = _read(os.path.join(self.source, f"{stem}.txt"))
        if data is not None:
            text = data.decode(self.encoding, "surrogateescape")
            found["captions"] = [line for line in text.splitlines() if line.strip()]
        return found


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_TEXT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Drop("text beside the image cannot be read", f"{path}: {error}") from error


def _images(root: str, below: str) -> Iterator[tuple[str, bool]]:
    """Paths of images relative to the root, in order, and whether a text has the same stem."""
    entries = sorted(
        os.scandir(os.path.join(root, below)), key=lambda entry: os.fsencode(entry.name)
    )
    names = {entry.name for entry in entries}
    for entry in entries:
        path = os.path.join(below, entry.name)
        if entry.is_dir():
            yield from _images(root, path)
        elif entry.name.lower().endswith(IMAGES):
            stem = os.path.splitext(entry.name)[0]
            yield path, f"{stem}.txt" in names or f"{stem}.json" in names


def _split(path: str) -> str:
    """The split that the first folder of the path names, or ""."""
    first = fields.split(path.split(os.sep)[0]) if os.sep in path else ""
    return first if first in SPLITS else ""


def _class(path: str) -> str:
    """Name of the folder that an image is in, "" where that is the root or a split."""
    folder = os.path.basename(os.path.dirname(path))
    return "" if folder == os.path.dirname(path) and _split(path) else folder
