"""The hidden folder that a build grows in, and what a build that was stopped left in it.

Every file in it is written under another name and renamed when it is whole, so what bears its name
can be relied on after a kill at any time.
"""

import contextlib
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.reader import Reader, stamp
from rsvl_jax.errors import UserError

_FORMAT = 1  # of what is left for the next build


@dataclass(frozen=True)
class Staging:
    """Paths below the hidden folder `root`."""

    root: str

    @property
    def index(self) -> str:
        """The reader's own folder."""
        return os.path.join(self.root, "index")

    @property
    def chunks(self) -> str:
        """What was found in each chunk of rows."""
        return os.path.join(self.root, "chunks")

    @property
    def shards(self) -> str:
        """Facts of each finished shard."""
        return os.path.join(self.root, "shards")

    @property
    def whole(self) -> str:
        """What becomes the data set."""
        return os.path.join(self.root, "whole")

    def begin(self, identity: dict[str, Any], *, restart: bool) -> bool:
        """Starts a build, or goes on with one of the same identity: whether it does.

        Raises UserError where another was stopped here.
        """
        journal = os.path.join(self.root, "journal.json")
        if restart:
            shutil.rmtree(self.root, ignore_errors=True)
        stopped = os.path.isfile(journal)
        if stopped:
            with open(journal, encoding="utf-8") as file:
                _check_same(json.load(file), json.loads(json.dumps(identity)))
        else:
            shutil.rmtree(self.root, ignore_errors=True)  # not even begun
            os.makedirs(self.root)
            write_json(journal, identity)
        for folder in (self.chunks, self.shards, self.whole):
            os.makedirs(folder, exist_ok=True)
        self.sweep()
        return stopped

    def sweep(self) -> None:
        """Deletes what was being written when a build was stopped."""
        for part in glob.glob(os.path.join(glob.escape(self.root), "*", "*.part")):
            os.unlink(part)

    def prepare(self, reader: Reader) -> dict[str, int]:
        """Has the reader write its index, once; what it left out, by reason."""
        notes = os.path.join(self.root, "prepared.json")
        if not os.path.isdir(self.index):
            part = f"{self.index}.part"
            shutil.rmtree(part, ignore_errors=True)
            os.makedirs(part)
            reader.prepare(part)
            write_json(notes, dict(reader.dropped()))
            os.replace(part, self.index)
        with open(notes, encoding="utf-8") as file:
            return json.load(file)

    def remove(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.root, ignore_errors=True)


def identity(reader: Reader, options: Options) -> dict[str, Any]:
    """What a build is of: all that decides the bytes of the data set."""
    return {
        "format": _FORMAT,
        "layout": reader.layout,
        "source": reader.describe(),
        "options": options.identity(),
        "files": stamp(reader.files()),
    }


def fingerprint(identity: dict[str, Any]) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _check_same(found: dict[str, Any], asked: dict[str, Any]) -> None:
    for part, value in asked.items():
        if found.get(part) == value:
            continue
        what = f"the {part}"
        if isinstance(value, dict) and isinstance(found.get(part), dict):
            names = {*value, *found[part]}
            what += " " + ", ".join(
                f"{n}={found[part].get(n)!r} (now {value.get(n)!r})"
                for n in sorted(names)
                if found[part].get(n) != value.get(n)
            )
        raise UserError(
            f"a build of this name was stopped here, with other rows to write: {what} changed; "
            "give the same flags to go on with it, or --restart to begin anew"
        )


def write_json(path: str, content: Any) -> None:
    """Writes a JSON file whole."""
    with replaced(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=True)
        file.write("\n")


@contextlib.contextmanager
def replaced(path: str) -> Iterator[str]:
    """A name to write to that becomes `path`, on the disk, when all went well."""
    # a worker of a killed build, or another machine, may be at it still
    temporary = f"{path}.{secrets.token_hex(8)}.part"
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)  # on a full disk it is in the way
        raise
