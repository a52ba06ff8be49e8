"""WebDataset tar shards, as open_clip trains on, as RS5M and CLIP_benchmark are published."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsvl_jax.datasets.image_text.reader import SPLITS, Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import fields, patterns, tars
from rsvl_jax.errors import UserError

_KEYS = {
    "image": ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "img_content"),
    "text": ("txt", "caption", "text"),
    "json": ("json",),
    "label": ("cls",),
}
_CLASSES, _TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"
_COUNT, _TYPE = "nshards.txt", "dataset_type.txt"
_PLAIN_TEMPLATE = "{c}"


class WebDataset(Reader):
    """Samples of tar shards.

    --source: a tar, a folder of them, "DIR/{pub11,rs3}-train-{0000..0031}.tar", or the root of a
    CLIP_benchmark set, whose classnames.txt and templates make captions of the labels and whose
    folders train and test are splits.
    """

    layout = "webdataset"
    help = "tar shards of open_clip, RS5M or CLIP_benchmark"

    def __init__(self, source: str, paths: Sequence[str], keys: Mapping[str, Sequence[str]]):
        """keys: role -> the extensions that may have it, see `tars.ROLES`."""
        self.source, self.paths, self.keys = source, list(paths), dict(keys)
        self.templates: list[str] = []
        self.several = False
        self._index = np.zeros(0, tars.INDEX)
        self._tars = tars.Tars(self.paths)
        self._dropped: dict[str, int] = {}

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Which members are what."""
        for role, flag, what in (
            ("image", "image_key", "of images"),
            ("text", "caption_key", "of captions"),
            ("json", "json_key", "of JSON with caption, lon, lat, ..."),
            ("label", "label_key", "of numbers of classes"),
        ):
            usual = ",".join(_KEYS[role])
            parser.add_argument(f"--{flag}", default=usual, help=f"endings {what} [{usual}]")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "WebDataset":
        """Finds the shards; all that nshards.txt or braces promise must be there."""
        flags = ("image_key", "caption_key", "json_key", "label_key")
        given = [getattr(arguments, flag).lower().split(",") for flag in flags]
        keys = {
            role: [key.strip().lstrip(".") for key in names if key.strip()]
            for role, names in zip(tars.ROLES, given, strict=True)
        }
        paths = patterns.find(arguments.source, (".tar",))
        _check_counts(paths)
        return cls(os.path.abspath(arguments.source), paths, keys)

    def describe(self) -> dict[str, Any]:
        """The shards, and which of their members are what."""
        return {"source": self.source, "shards": len(self.paths), "keys": self.keys}

    def files(self) -> list[str]:
        """The shards, and what stands beside them."""
        return [
            *self.paths,
            *(p for name in (_CLASSES, _TEMPLATES, _TYPE) if (p := self._beside(name))),
        ]

    def prepare(self, folder: str) -> None:
        """Where the members of each sample begin: 36 bytes a sample."""
        roles = {key: role for role, names in self.keys.items() for key in names}
        dropped: Counter[str] = Counter()
        with open(os.path.join(folder, "samples"), "wb") as out:
            for number, path in enumerate(self.paths):
                found = tars.scan(path, number, roles, out)
                if found.error:
                    print(f"shard {path!r} ends early: {found.error}", file=sys.stderr)
                    dropped["shard is truncated" if found.rows else "shard cannot be read"] += 1
                elif not set(found.seen) & set(self.keys["image"]):
                    raise UserError(_wrong_keys(path, found.seen, self.keys["image"]))
        with open(os.path.join(folder, "dropped.json"), "w", encoding="utf-8") as file:
            json.dump(dropped, file)

    def open(self, folder: str) -> None:
        """Opens the index, and the names of the classes."""
        path = os.path.join(folder, "samples")
        if os.path.getsize(path):
            self._index = np.memmap(path, tars.INDEX, "r")
        with open(os.path.join(folder, "dropped.json"), encoding="utf-8") as file:
            self._dropped = json.load(file)
        self.classes = self._lines(_CLASSES)
        self.templates = self._lines(_TEMPLATES) or [_PLAIN_TEMPLATE]
        self.several = self._lines(_TYPE) == ["retrieval"]

    def __len__(self) -> int:
        return len(self._index)

    def dropped(self) -> Mapping[str, int]:
        """Shards that end early or are none: what is behind that point cannot be counted."""
        return self._dropped

    def read(self, index: int) -> Row:
        """A sample; its key is SHARD/KEY."""
        entry = self._index[index]
        members = {
            role: self._tars.read(int(entry["tar"]), int(entry[role]))
            for role in tars.ROLES
            if entry[role] != tars.NONE
        }
        if "image" not in members:
            raise Drop("image is missing", next(iter(members.values())).key)
        shard = os.path.relpath(self.paths[int(entry["tar"])], self._root())
        given = _object(members["json"].data) if "json" in members else {}
        label = self._label(members["label"].data) if "label" in members else -1
        captions = self._captions(members, given, label)
        split = given.pop("split", "") or _split(shard)
        key = f"{os.path.splitext(shard)[0]}/{members['image'].key}"
        given.pop("captions", None)
        return Row(
            key=key,
            image=members["image"].data,
            captions=captions,
            label=label,
            split=split,
            **given,
        )

    def _captions(
        self, members: Mapping[str, tars.Member], given: Mapping[str, Any], label: int
    ) -> list[str]:
        """Those of the text member, of JSON, or of the class."""
        if "text" in members:
            text = members["text"].data.decode(errors="surrogateescape")
            return text.splitlines() if self.several else [text]
        if given.get("captions"):
            return list(given["captions"])
        if label < 0:
            return []
        return [template.replace("{c}", self.classes[label]) for template in self.templates]

    def _label(self, data: bytes) -> int:
        text = data.decode(errors="replace").strip()
        if not text.isdecimal() or (self.classes and int(text) >= len(self.classes)):
            raise Drop("label is no number of a class", repr(text)[:80])
        return int(text) if self.classes else -1

    def _root(self) -> str:
        return self.source if os.path.isdir(self.source) else os.path.dirname(self.paths[0])

    def _beside(self, name: str) -> str:
        """Path of a file in the root or above the shards, "" for none."""
        folder = os.path.dirname(self.paths[0])
        for place in (self._root(), folder, os.path.dirname(folder)):
            if os.path.isfile(path := os.path.join(place, name)):
                return path
        return ""

    def _lines(self, name: str) -> list[str]:
        path = self._beside(name)
        if not path:
            return []
        with open(path, encoding="utf-8") as file:
            return [line.strip() for line in file if line.strip()]


def _object(data: bytes) -> dict[str, Any]:
    try:
        given = json.loads(data)
    except ValueError as error:
        raise Drop("JSON beside the image cannot be read", str(error)[:80]) from error
    if not isinstance(given, dict):
        raise Drop("JSON beside the image is no object", type(given).__name__)
    return fields.of_mapping(given)


def _split(shard: str) -> str:
    """The split that the folder of a shard, or a word of its name, tells: "rs3-val-0001.tar"."""
    words = os.path.splitext(shard)[0].replace(os.sep, "-").replace("_", "-").split("-")
    known = [name for name in map(fields.split, words) if name in SPLITS]
    return known[0] if known else ""


def _wrong_keys(path: str, seen: Mapping[str, int], wanted: Sequence[str]) -> str:
    if not seen:
        return f"shard {path!r} is empty"
    most = sorted(seen, key=lambda key: -seen[key])[:8]
    listed = ", ".join(f".{key} ({seen[key]})" for key in most)
    return (
        f"shard {path!r} has no image (looked for .{', .'.join(wanted)}), but {listed}: name the "
        "right ending with --image_key"
    )


def _check_counts(paths: Sequence[str]) -> None:
    """UserError where a folder's nshards.txt promises more shards than there are."""
    for folder in sorted({os.path.dirname(path) for path in paths}):
        count = os.path.join(folder, _COUNT)
        if not os.path.isfile(count):
            continue
        with open(count, encoding="utf-8", errors="replace") as file:
            text = file.read().strip()
        have = sum(os.path.dirname(path) == folder for path in paths)
        if not text.isdecimal() or int(text) != have:
            raise UserError(f"{count!r} says {text[:20]!r} shards, but there are {have}")
