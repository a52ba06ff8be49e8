"""Which data sets there are, and where they lie: `<data_dir>/<name>/<config>/<version>/`."""

import difflib
import os
import re
from dataclasses import dataclass

from rsvl_jax.errors import UserError

PAIRS = "ground_satellite_pairs"  # collected by a method's own command, under a name of the user's
ZOOM_PAIRS = "zoom_pairs"
IMAGE_TEXT = "image_text"  # built from a download, under a name of the user's
_CONFIGS = {"earth_tiles": ("full", "mini"), ZOOM_PAIRS: ("full", "mini")}
_VERSIONS = {"earth_tiles": "1.0.0", ZOOM_PAIRS: "1.1.0", PAIRS: "1.0.0", IMAGE_TEXT: "1.0.0"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Entry:
    """A data set: builder, config and version as TFDS names them."""

    builder: str
    config: str
    version: str

    @property
    def name(self) -> str:
        """What people call it: "earth_tiles", or "earth_tiles/mini"."""
        default = self.builder in _CONFIGS and self.config == _CONFIGS[self.builder][0]
        return self.builder if default else f"{self.builder}/{self.config}"

    def directory(self, data_dir: str) -> str:
        """Absolute path of the data set below `data_dir`."""
        return os.path.join(local(data_dir), self.builder, self.config, self.version)


def entries() -> list[Entry]:
    """Every data set that can be built."""
    return [Entry(b, c, _VERSIONS[b]) for b, configs in _CONFIGS.items() for c in configs]


def built(data_dir: str) -> list[Entry]:
    """The image-text data sets that there are below `data_dir`."""
    folder = os.path.join(local(data_dir), IMAGE_TEXT)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [Entry(IMAGE_TEXT, name, _VERSIONS[IMAGE_TEXT]) for name in names]


def pairs(config: str) -> Entry:
    """The collected pairs that the user called `config`."""
    return Entry(PAIRS, config, _VERSIONS[PAIRS])


def image_text(config: str) -> Entry:
    """The image-text pairs that the user called `config`; UserError for what is no file name."""
    if not _NAME.fullmatch(config):
        raise UserError(f"data set name {config!r}: use letters, digits, '.', '_' and '-'")
    return Entry(IMAGE_TEXT, config, _VERSIONS[IMAGE_TEXT])


def find(name: str) -> Entry:
    """The data set called `name` ("earth_tiles/full" is "earth_tiles"); UserError if unknown.

    "ground_satellite_pairs/NAME" and "image_text/NAME" are known for every NAME.
    """
    if name.startswith(f"{PAIRS}/"):
        return pairs(name.removeprefix(f"{PAIRS}/"))
    if name.startswith(f"{IMAGE_TEXT}/"):
        return image_text(name.removeprefix(f"{IMAGE_TEXT}/"))
    known = {entry.name: entry for entry in entries()}
    known |= {f"{e.builder}/{e.config}": e for e in entries()}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    raise UserError(f"unknown data set {name!r}: did you mean {near!r}?")


def local(data_dir: str) -> str:
    """Absolute path of a data directory; UserError for an object-store address."""
    if "://" in data_dir:
        raise UserError(
            f"data directory {data_dir!r} is not a local path: mount or copy the data set first"
        )
    return os.path.abspath(os.path.expanduser(data_dir))
