"""Karpathy's JSON of captions: RSICD, RSITMD, UCM-captions, Sydney-captions, COCO.

{"images": [{"filename": "1.tif", "split": "train", "sentences": [{"raw": "..."}]}]}
"""

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from rsvl_jax.datasets.image_text.reader import Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import fields, files
from rsvl_jax.errors import UserError

_SPLITS = {"restval": "train"}  # COCO's: the rest of the validation images, to train on
_DEPTH = 2  # folders below the JSON's that are searched for the images


class Karpathy(Reader):
    """Images of a JSON file, each with its sentences."""

    layout = "karpathy"
    help = "a JSON of captions as of RSICD, RSITMD, UCM-captions, Sydney-captions"

    def __init__(self, path: str, images: str, encoding: str = "utf-8"):
        """images: folder of the images; "" looks for them below that of the JSON."""
        self.path, self.images, self.encoding = path, images, encoding
        self._starts = np.zeros(1, np.int64)
        self._rows: BinaryIO | None = None

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Where the images are."""
        parser.add_argument("--images", default="", help="their folder [looked for]")
        parser.add_argument("--encoding", default="utf-8", help="of the JSON, as gb18030 [utf-8]")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "Karpathy":
        """--source is the JSON, or a folder that holds one "dataset*.json"."""
        path = _json_file(arguments.source)
        if arguments.images and not os.path.isdir(arguments.images):
            raise UserError(f"--images={arguments.images!r} is no folder")
        return cls(path, arguments.images and os.path.abspath(arguments.images), arguments.encoding)

    def describe(self) -> dict[str, Any]:
        """The file, and where images are."""
        return {"json": self.path, "images": self.images, "encoding": self.encoding}

    def files(self) -> list[str]:
        """The JSON; images are not looked at one by one."""
        return [self.path]

    def prepare(self, folder: str) -> None:
        """The images of the file, a line each, and the folder that their files are in."""
        images = self._load()
        starts = np.zeros(len(images) + 1, np.int64)
        with open(os.path.join(folder, "rows"), "wb") as out:
            for number, image in enumerate(images):
                out.write(json.dumps(image).encode() + b"\n")
                starts[number + 1] = out.tell()
        np.save(os.path.join(folder, "starts.npy"), starts)
        with open(os.path.join(folder, "images"), "w", encoding="utf-8") as file:
            file.write(self.images or _search(os.path.dirname(self.path), images))

    def open(self, folder: str) -> None:
        """Opens what `prepare` wrote."""
        self._starts = np.load(os.path.join(folder, "starts.npy"), mmap_mode="r")
        self._rows = open(os.path.join(folder, "rows"), "rb")  # noqa: SIM115 for good
        with open(os.path.join(folder, "images"), encoding="utf-8") as file:
            self._root = file.read()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def read(self, index: int) -> Row:
        """An image with all its sentences."""
        assert self._rows is not None, "open first"
        start, end = int(self._starts[index]), int(self._starts[index + 1])
        self._rows.seek(start)
        image = json.loads(self._rows.read(end - start))
        if not isinstance(image, dict) or not isinstance(image.get("filename"), str):
            raise Drop("image has no filename", f"number {index}")
        path = os.path.join(str(image.get("filepath") or ""), image["filename"])
        split = str(image.get("split") or "")
        return Row(
            key=path,
            image=files.read(self._root, path),
            captions=list(_sentences(image)),
            split=fields.split(_SPLITS.get(split.lower(), split)),
        )

    def _load(self) -> list[Any]:
        try:
            with open(self.path, encoding=self.encoding) as file:
                given = json.load(file)
        except (UnicodeDecodeError, LookupError) as error:
            raise UserError(
                f"{self.path!r} is not {self.encoding} ({error}): give --encoding, as gb18030"
            ) from error
        except ValueError as error:
            raise UserError(f"{self.path!r} is no whole JSON: {error}") from error
        images = given.get("images") if isinstance(given, dict) else None
        if not isinstance(images, list):
            has = ", ".join(map(repr, given)) if isinstance(given, dict) else type(given).__name__
            raise UserError(f'{self.path!r} has no list "images", but {has[:200]}')
        if not images:
            raise UserError(f'{self.path!r} has an empty list "images"')
        return images


def _sentences(image: dict[str, Any]) -> Iterator[str]:
    found = image.get("sentences")
    if not isinstance(found, list):
        raise Drop("caption is missing", image["filename"])
    for sentence in found:
        text = sentence.get("raw") if isinstance(sentence, dict) else sentence
        if isinstance(text, str):
            yield text


def _json_file(source: str) -> str:
    if os.path.isfile(source):
        return os.path.abspath(source)
    if not os.path.isdir(source):
        raise UserError(f"--source={source!r} is neither a JSON file nor a folder with one")
    names = sorted(name for name in os.listdir(source) if name.lower().endswith(".json"))
    likely = [name for name in names if name.lower().startswith("dataset")] or names
    if len(likely) != 1:
        raise UserError(f"--source={source!r} holds {len(likely)} JSON files {likely}: give one")
    return os.path.abspath(os.path.join(source, likely[0]))


def _search(root: str, images: list[Any]) -> str:
    """The folder in which the first of the images is that can be found at all."""
    folders = [folder for folder, _, _ in os.walk(root) if _depth(folder, root) <= _DEPTH]
    for image in images[:100]:
        name = image.get("filename") if isinstance(image, dict) else None
        for folder in folders if isinstance(name, str) else ():
            if os.path.isfile(os.path.join(folder, str(image.get("filepath") or ""), str(name))):
                return folder
    raise UserError(f"no folder in {root!r} holds the images: name it with --images")


def _depth(folder: str, root: str) -> int:
    return os.path.relpath(folder, root).count(os.sep) + (folder != root)
