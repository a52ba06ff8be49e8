"""CLIP_benchmark's layout: SPLIT/0.tar, 1.tar, ... of members KEY.jpg with KEY.cls or KEY.txt.

classnames.txt (one a line) goes with .cls, the number of a class; .txt has a caption a line. Tars
are read in place: where each image begins is noted once, in memory.
"""

import glob
import io
import os
import tarfile
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.pictures import RULES

_IMAGES = ("jpg", "jpeg", "png", "webp")


@dataclass(frozen=True)
class _Member:
    path: str
    offset: int
    size: int


@dataclass(frozen=True)
class _Rows:
    """Images inside of tars: row -> uint8 [H,W,3]."""

    members: tuple[_Member, ...]

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, row: int) -> np.ndarray:
        member = self.members[row]
        with open(member.path, "rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
        try:
            with Image.open(io.BytesIO(data)) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(
                f"{member.path!r}: the image at byte {member.offset} cannot be decoded ({error})"
            ) from error


def is_there(root: str) -> bool:
    """Whether a folder is of this layout."""
    return bool(glob.glob(os.path.join(glob.escape(root), "*", "0.tar")))


def read(name: str, root: str, split: str) -> Collection:
    """A split. Raises UserError for tars that are missing or damaged, or keys that do not fit."""
    paths = sorted(glob.glob(os.path.join(glob.escape(root), splits.spelt(split), "*.tar")))
    if not paths:
        there = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        raise UserError(f"{root!r} has no {split}/0.tar; folders there: {', '.join(there)}")
    samples: dict[str, dict[str, object]] = {}
    for path in paths:
        for key, ending, value in _members(path):
            if ending in samples.setdefault(key, {}):
                raise UserError(f"{path!r} has {key}.{ending} once more")
            samples[key][ending] = value
    images = {key: _image(parts, key, root) for key, parts in samples.items()}
    labels = [_label(parts) for parts in samples.values()]
    captions = tuple(_captions(parts) for parts in samples.values())
    labelled = all(label is not None for label in labels)
    if not labelled and not all(captions):
        endings = sorted({ending for parts in samples.values() for ending in parts})
        raise UserError(f"{root!r}: not every image has a .cls or a .txt; endings: {endings}")
    classes = _classes(root) if labelled else ()
    for key, label in zip(samples, labels, strict=True):
        if labelled and label is not None and label >= len(classes):
            raise UserError(f"{root!r}: {key}.cls is {label}, of {len(classes)} classes")
    return Collection(
        name=name,
        split=split,
        ids=tuple(samples),
        images=_Rows(tuple(images.values())),
        labels=np.array(labels, np.int32) if labelled else None,
        classes=classes,
        captions=captions if all(captions) else (),
        protocol={"split_rule": f"{split}/*.tar", "pixels": RULES},
    )


def _members(path: str):
    """(key, ending, place of an image or bytes of anything else) of every file."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                key, _, ending = member.name.partition(".")
                if ending.lower() in _IMAGES:
                    yield key, ending.lower(), _Member(path, member.offset_data, member.size)
                else:
                    file = tar.extractfile(member)
                    yield key, ending.lower(), b"" if file is None else file.read()
    except tarfile.TarError as error:
        raise UserError(f"{path!r} is not a whole tar ({error}): get it again") from error


def _image(parts: dict[str, object], key: str, root: str) -> _Member:
    found = [value for value in parts.values() if isinstance(value, _Member)]
    if len(found) != 1:
        raise UserError(f"{root!r}: the sample {key!r} has {len(found)} images")
    return found[0]


def _label(parts: dict[str, object]) -> int | None:
    value = parts.get("cls")
    return int(value) if isinstance(value, bytes) and value.strip().isdigit() else None


def _captions(parts: dict[str, object]) -> tuple[str, ...]:
    value = parts.get("txt")
    lines = value.decode(errors="replace").splitlines() if isinstance(value, bytes) else []
    return tuple(line.strip() for line in lines if line.strip())


def _classes(root: str) -> tuple[str, ...]:
    path = os.path.join(root, "classnames.txt")
    try:
        with open(path, encoding="utf-8") as file:
            return tuple(line.strip() for line in file if line.strip())
    except OSError as error:
        raise UserError(f"no {path!r}: the names of the classes, one a line") from error
