"""Captions with boxes that `python -m flavars_jax.ground_captions` had a vision model write.

A folder of its answers: journal.jsonl, one line an image, and source.json, which says what the
rows were: a table, with images in files, or the records of a built data set.
"""

import argparse
import array
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from rsvl_jax.datasets import store
from rsvl_jax.datasets.image_text.reader import Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import fields, files
from rsvl_jax.errors import UserError

JOURNAL, SOURCE = "journal.jsonl", "source.json"


class Grounded(Reader):
    """Answers of a vision model: better captions, with boxes for their phrases."""

    layout = "grounded"
    help = "captions with boxes of flavars_jax.ground_captions"

    def __init__(self, folder: str, images: str, with_original: bool):
        """images: folder where the images lie now, "" where they lay when they were asked about.
        with_original: keeps the caption that was improved, as a second one."""
        self.folder, self.images, self.with_original = folder, images, with_original
        try:
            with open(os.path.join(folder, SOURCE), encoding="utf-8") as file:
                self.asked: Mapping[str, Any] = json.load(file)["rows"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"--source={folder!r} holds no readable {SOURCE}: give the --output folder of "
                "flavars_jax.ground_captions"
            ) from error
        if not os.path.isfile(os.path.join(folder, JOURNAL)):
            raise UserError(f"--source={folder!r} holds no {JOURNAL}: nothing was answered yet")
        if images and not os.path.isdir(images):
            raise UserError(f"--images={images!r} is no folder")
        self._starts = np.zeros(1, np.int64)
        self._file: BinaryIO | None = None
        self._splits: dict[str, Sequence[Mapping[str, Any]]] = {}

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Where images lie, and what becomes of the captions of before."""
        parser.add_argument("--images", default="", help="folder of the images, if they have moved")
        parser.add_argument(
            "--with_original", action="store_true", help="keep the caption of before, too"
        )

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Grounded":
        """--source is the folder of answers."""
        folder = os.path.abspath(arguments.source)
        return cls(folder, arguments.images, arguments.with_original)

    def describe(self) -> dict[str, Any]:
        """What was asked about, and how."""
        return {
            "answers": self.folder,
            "images": os.path.abspath(self.images) if self.images else "",
            "with_original": self.with_original,
            "rows": dict(self.asked),
        }

    def files(self) -> list[str]:
        """The answers and what they are about."""
        return [os.path.join(self.folder, name) for name in (JOURNAL, SOURCE)]

    def prepare(self, folder: str) -> None:
        """Where each line begins; a torn one at the end is no line."""
        starts, place = array.array("q", [0]), 0
        with open(os.path.join(self.folder, JOURNAL), "rb") as file:
            for line in file:
                place += len(line)
                if line.endswith(b"\n"):
                    starts.append(place)
        np.save(os.path.join(folder, "starts.npy"), np.frombuffer(starts, np.int64))

    def open(self, folder: str) -> None:
        """Opens the journal."""
        self._starts = np.load(os.path.join(folder, "starts.npy"), mmap_mode="r")
        self._file = open(os.path.join(self.folder, JOURNAL), "rb")  # noqa: SIM115 for good

    def __len__(self) -> int:
        return len(self._starts) - 1

    def read(self, index: int) -> Row:
        """An answer with its image; raises Drop where either cannot be read."""
        assert self._file is not None, "open first"
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        self._file.seek(start)
        try:
            line = json.loads(self._file.read(end - start))
            captions = [line["caption"], *[line["original"]] * self.with_original]
            return Row(
                key=line["id"],
                image=self._image(line["image"]),
                captions=captions,
                lon=line["lon"],
                lat=line["lat"],
                tags={"known": line["known"], "phrases": line["tags"]},
                phrases=line["phrases"],
                boxes=[tuple(box) for box in line["boxes"]],
                split=fields.split(line["split"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Drop("answer cannot be read", f"line {index + 1}: {error}") from error

    def _image(self, where: Mapping[str, Any]) -> bytes:
        if "path" not in where:
            return self._split(where["split"])[where["index"]]["image"]
        path = where["path"]
        if self.images:
            path = os.path.join(self.images, os.path.relpath(path, self.asked["images"]))
        return files.read("", path)

    def _split(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Records of the data set that was asked about."""
        if name not in self._splits:
            self._splits[name] = store.load(self.asked["name"], self.asked["data_dir"], name)
        return self._splits[name]
