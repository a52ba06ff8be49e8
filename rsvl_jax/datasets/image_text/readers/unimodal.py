"""Images without captions, and texts without images: for streams of a run that need no pairs."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from rsvl_jax.datasets.image_text.reader import Reader, Row
from rsvl_jax.datasets.image_text.readers import patterns
from rsvl_jax.datasets.image_text.readers.folder import Folder
from rsvl_jax.errors import UserError

_LONGEST = 2**20  # bytes of a line; what is longer is no caption


class Images(Folder):
    """All images below a folder, with the places that JSON files of their stems tell."""

    layout = "images"
    help = "a folder of images without captions, for the stream of images alone"
    parts = frozenset({"image"})

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """It has no flags of its own."""

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Images":
        """--source is the folder; train/, val/, test/ in it are splits."""
        if not os.path.isdir(arguments.source):
            raise UserError(f"--source={arguments.source!r} is no folder")
        return cls(os.path.abspath(arguments.source), "none", "", "utf-8")

    def read(self, index: int) -> Row:
        """An image."""
        return replace(super().read(index), captions=())


class Texts(Reader):
    """Lines of text files, each a text of its own."""

    layout = "texts"
    help = "text files, a caption a line, for the stream of texts alone"
    parts = frozenset({"captions"})

    def __init__(self, paths: Sequence[str], encoding: str):
        """paths: the files in order."""
        self.paths, self.encoding = list(paths), encoding
        self._lines = np.zeros((0, 2), np.int64)
        self._files: dict[int, BinaryIO] = {}

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """How the files are encoded."""
        parser.add_argument("--encoding", default="utf-8", help="of the files, as gb18030 [utf-8]")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Texts":
        """--source is a file, a folder of .txt files, or a pattern."""
        try:
            "".encode(arguments.encoding)
        except LookupError as error:
            raise UserError(f"--encoding={arguments.encoding!r} is unknown: use utf-8") from error
        return cls(patterns.find(arguments.source, (".txt", ".text")), arguments.encoding)

    def describe(self) -> dict[str, Any]:
        """The files."""
        return {"files": len(self.paths), "first": self.paths[0], "encoding": self.encoding}

    def files(self) -> list[str]:
        """The text files."""
        return self.paths

    def prepare(self, folder: str) -> None:
        """Where every line that is not blank begins: sixteen bytes a line."""
        with open(os.path.join(folder, "lines"), "wb") as out:
            for number, path in enumerate(self.paths):
                place = 0
                with open(path, "rb") as file:
                    for line in file:
                        if line.strip():
                            out.write(np.array([number, place], np.int64).tobytes())
                        place += len(line)

    def open(self, folder: str) -> None:
        """Opens the index."""
        path = os.path.join(folder, "lines")
        if os.path.getsize(path):
            self._lines = np.memmap(path, np.int64, "r").reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, index: int) -> Row:
        """A line; bytes that are not in the encoding become lone surrogates."""
        number, place = self._lines[index].tolist()
        if number not in self._files:
            self._files[number] = open(self.paths[number], "rb")  # noqa: SIM115 for good
        self._files[number].seek(place)
        text = self._files[number].readline(_LONGEST).decode(self.encoding, "surrogateescape")
        name = os.path.basename(self.paths[number])
        return Row(key=f"{number}/{name}/{place}", captions=[text.strip()])
