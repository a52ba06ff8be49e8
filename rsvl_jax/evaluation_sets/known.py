"""The data sets that are known by name; see `sets.toml`."""

import difflib
import functools
import importlib.resources
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field

from rsvl_jax.errors import UserError


@dataclass(frozen=True)
class SplitList:
    """Files that say which images are in a split.

    Attributes:
      file: name, "{split}" stands for "train", "val" or "test"; of a .csv the first column counts.
      published: where they are to be had.
      md5: split -> first 8 hex digits of the published file's MD5, where that is known.
    """

    file: str
    published: str
    md5: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """A data set.

    Attributes:
      layout: how it lies on disk, a key of `opening.LAYOUTS`.
      classes: in the order of the labels; () are taken from the folders.
      spellings: other names of the classes by who uses them, in the same order.
      aliases: folder or label -> class, where a release has another name for it.
      lists: split rule -> its files.
      images: in all, None where that is not known.
      sensor: of files with more than three bands, see `rsvl_jax.rasters.sensors`; "" for none.
      bands: names of the bands of such files, in their order.
    """

    name: str
    title: str
    layout: str
    classes: tuple[str, ...] = ()
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, SplitList] = field(default_factory=dict)
    images: int | None = None
    sensor: str = ""
    bands: tuple[str, ...] = ()


@functools.cache
def table() -> Mapping[str, Known]:
    """All of them by name."""
    text = importlib.resources.files(__package__).joinpath("sets.toml").read_text()
    entries = tomllib.loads(text)
    return {
        name: _known(name, {**entries.get(entry.get("like", ""), {}), **entry})
        for name, entry in entries.items()
    }


def _known(name: str, entry: dict) -> Known:
    return Known(
        name=name,
        title=entry["title"],
        layout=entry["layout"],
        classes=tuple(entry["classes"]),
        spellings={key: tuple(value) for key, value in entry.get("spellings", {}).items()},
        aliases=entry.get("aliases", {}),
        lists={rule: SplitList(**value) for rule, value in entry.get("lists", {}).items()},
        images=entry.get("images"),
        sensor=entry.get("sensor", ""),
        bands=tuple(entry.get("bands", ())),
    )


def find(name: str) -> Known:
    """The data set of that name. Raises UserError, with the nearest name, for none."""
    if name in table():
        return table()[name]
    near = difflib.get_close_matches(name, table(), 1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(table())}"
    raise UserError(f"no data set {name!r} is known: {hint}")
