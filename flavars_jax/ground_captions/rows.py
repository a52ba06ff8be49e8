"""What is asked about: an image, the caption it has, and the tags that are known of it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Row:
    """One image with its words.

    Attributes:
      id: of the row, the same on every reading; answers are found again by it.
      image: where the image lies, as JSON: {"path": file} or {"split": name, "index": number}.
      caption: as it lies in the source.
      tags: "key=value" of OpenStreetMap, all different.
      lon, lat: degrees of the centre, None unknown.
      split: "train", "validation", "test", or "" unknown.
    """

    id: str
    image: Mapping[str, Any]
    caption: str
    tags: tuple[str, ...] = ()
    lon: float | None = None
    lat: float | None = None
    split: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is none. id: a name for it, such as "line 12"; reason: a short fixed phrase."""

    id: str
    reason: str
    detail: str = ""


class Rows(Protocol):
    """Rows in an order that never changes; raises UserError for what cannot be read at all."""

    def __iter__(self) -> Iterator[Row | Unreadable]: ...

    def picture(self, row: Row) -> bytes:
        """The encoded image of a row, from any thread; OSError where there is none."""
        ...

    def describe(self) -> dict[str, Any]:
        """Which rows these are, for JSON: a second start must be about the same ones."""
        ...


def tags(value: Any) -> tuple[str, ...]:
    """ "key=value" texts, all different, from any form in which tags come.

    A dict, a list of either, both nested (SkyScript's center_tags and surrounding_tags), JSON of
    these, or "key=value;key=value".
    """
    return tuple(dict.fromkeys(tag for tag in _flat(value, "") if tag))


def _flat(value: Any, key: str) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, str) and not key:
        yield from _split(value.strip())
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, str(name))
    elif isinstance(value, list | tuple):
        for inner in value:
            # A list under a name holds tags of its own, or several values of that name.
            own = isinstance(inner, Mapping) or (isinstance(inner, str) and "=" in inner)
            yield from _flat(inner, "" if own else key)
    else:
        yield _line(f"{key}={value}" if key else str(value))


def _split(text: str) -> Iterator[str]:
    if text[:1] in ("[", "{"):
        try:
            value = json.loads(text)
        except ValueError:
            pass
        else:
            yield from _flat(value, "")
            return
    yield from (_line(part) for part in text.split(";"))


def _line(text: str) -> str:
    return " ".join(text.split())
