"""Samples in tar shards, as WebDataset has them: neighbours with the same name up to a dot."""

import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rsvl_jax.data.transforms import CorruptImage, decode
from rsvl_jax.embed.files import SUFFIXES, UNREADABLE, identity, place
from rsvl_jax.embed.items import IMAGES, Input, Item, Row, Skip

_IMAGES = (*SUFFIXES, ".img_content")  # the last is RS5M's


def shards(paths: Sequence[str]) -> Input:
    """The samples of all shards; with places where the first has a .json with lon and lat."""
    first = next(_samples(paths[:1]), None)
    placed = first is not None and {"lon", "lat"} <= set(_facts(first[2]))

    def items(start: int) -> Iterator[Item]:
        for number, sample in enumerate(_samples(paths)):
            if number >= start:
                yield _item(*sample, placed)

    return Input(IMAGES, ("lon", "lat") if placed else (), items, identity(paths))


Files = dict[str, bytes]


def _samples(paths: Sequence[str]) -> Iterator[tuple[str, str, Files]]:
    """(shard, key, content by suffix) of each sample; a damaged shard ends in one without files."""
    for path in paths:
        try:
            with tarfile.open(path) as tar:
                for key, members in groupby((m for m in tar if m.isfile()), lambda m: _key(m.name)):
                    yield path, key, {m.name[len(key) :].lower(): _read(tar, m) for m in members}
        except (tarfile.TarError, OSError, EOFError) as error:
            yield path, f"damaged: {error}", {}


def _key(name: str) -> str:
    folder, base = os.path.split(name)
    return os.path.join(folder, base.partition(".")[0])


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    content = file.read()
    if len(content) < member.size:
        raise tarfile.ReadError("it ends too early")
    return content


def _item(path: str, key: str, files: Files, placed: bool) -> Item:
    def load() -> tuple[Any, Row]:
        if not files:
            raise Skip("a damaged shard", f"{path!r} is {key}")
        content = next((files[name] for name in _IMAGES if name in files), None)
        if content is None:
            raise Skip("no image in the sample", f"{key!r} of {path!r} has {', '.join(files)}")
        facts = _facts(files) if placed else {}
        found = place(facts.get("lon"), facts.get("lat")) if placed else {}
        try:
            return decode(content), found
        except CorruptImage as error:
            raise Skip(UNREADABLE, f"{key!r} of {path!r}: {error}") from error

    return Item(key, path, load)


def _facts(files: Files) -> dict[str, Any]:
    try:
        found = json.loads(files.get(".json", b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
