"""One thing to embed, and what of it stands in the table beside its embedding."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rsvl_jax.errors import UserError

IMAGES, PLACES = "images", "places"
Row = dict[str, Any]


class Skip(UserError):
    """A thing that cannot be embedded; `reason` is what such things are counted under."""

    def __init__(self, reason: str, line: str):
        super().__init__(line)
        self.reason = reason


@dataclass(frozen=True)
class Item:
    """An image or a place.

    Attributes:
      name: the row's `id` · source: the file that it is from.
      load: () -> (an image uint8 [H, W, 3], or None for a place; further columns). Called in any
        thread. Raises UserError for what cannot be used.
    """

    name: str
    source: str
    load: Callable[[], tuple[Any, Row]]


@dataclass(frozen=True)
class Input:
    """All that a command was given.

    Attributes:
      kind: IMAGES or PLACES · columns: further ones that its items have.
      items: (number) -> those from that number on, the ones before are not read. Drawn by one
        thread. The same numbers are the same items, as long as `identity` is the same.
      identity: of the files, by name, size and date.
      total: how many there are; None where only reading them would tell.
    """

    kind: str
    columns: tuple[str, ...]
    items: Callable[[int], Iterator[Item]]
    identity: str
    total: int | None = None
