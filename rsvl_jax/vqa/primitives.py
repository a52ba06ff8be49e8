"""What a program can ask of an image. Each primitive is a method; nothing else can be called.

Sizes, shapes and relations follow RSVQA (Lobry et al. 2020, the released question builder), as far
as masks allow: small is below 100 m2, large from 500 m2 on; a thing is left of another where all of
it lies left of the other's middle, and next to it within 1,000 m. Shapes are those of boxes, since
a mask has no corners to count: a rectangle fills at least RECTANGLE of its box, a circle between
CIRCLE of it. Where the ground is not known, areas are pixels and 1,000 m are a tenth of the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.vqa.objects import Thing, gap, things, union

SMALL, LARGE = 100.0, 500.0  # m2
NEAR = 1000.0  # m
NEAR_SHARE = 0.1  # of the longer side
RECTANGLE = 0.85
CIRCLE = (0.6, 0.95)
SQUARE = 0.9  # shorter side over longer side
_MOST_PAIRS = 4_000_000
URBAN = 2  # more buildings than so many make an image urban

SIZES = ("small", "medium", "large")
SHAPES = ("square", "rectangular", "circular")
RELATIONS = ("top", "bottom", "left", "right", "next")


class Looker(Protocol):
    """Where in an image things are."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""

    @property
    def metres(self) -> float | None:
        """Side of a pixel, None where the ground is not known."""

    def mask(self, name: str) -> np.ndarray:
        """Pixels of what the name says, bool [H,W]."""


@dataclass(frozen=True)
class Primitives:
    """The functions of a program over one image.

    Attributes:
      looker: the image.
      least: pixels below which a connected part is no thing.
    """

    looker: Looker
    least: int = 1

    def find(self, name: str) -> list[Thing]:
        """All things of a name."""
        mask = self.looker.mask(_text(name))
        return things(mask, least=self.least, metres=self.looker.metres)

    def exists(self, some: Sequence[Thing]) -> bool:
        """Whether there is any."""
        return len(_things(some)) > 0

    def count(self, some: Sequence[Thing]) -> int:
        """How many there are."""
        return len(_things(some))

    def area(self, some: Sequence[Thing]) -> float:
        """Their square metres together, pixels where the ground is not known."""
        return float(sum(thing.area for thing in _things(some)))

    def share(self, some: Sequence[Thing]) -> float:
        """Their share of the image, 0 to 1."""
        rows, columns = self.looker.shape
        return sum(thing.pixels for thing in _things(some)) / (rows * columns)

    def sized(self, some: Sequence[Thing], size: str) -> list[Thing]:
        """Those that are "small", "medium" or "large"."""
        _one_of(size, SIZES)
        tests: dict[str, Callable[[float], bool]] = {
            "small": lambda area: area < SMALL,
            "medium": lambda area: SMALL <= area < LARGE,
            "large": lambda area: area >= LARGE,
        }
        return [thing for thing in _things(some) if tests[size](thing.area)]

    def shaped(self, some: Sequence[Thing], shape: str) -> list[Thing]:
        """Those that are "square", "rectangular" or "circular"."""
        _one_of(shape, SHAPES)
        tests: dict[str, Callable[[Thing], bool]] = {
            "square": lambda thing: thing.fill >= RECTANGLE and thing.sides >= SQUARE,
            "rectangular": lambda thing: thing.fill >= RECTANGLE,
            "circular": lambda t: CIRCLE[0] <= t.fill < CIRCLE[1] and t.sides >= SQUARE,
        }
        return [thing for thing in _things(some) if tests[shape](thing)]

    def where(self, some: Sequence[Thing], relation: str, others: Sequence[Thing]) -> list[Thing]:
        """Those at the "top", "bottom", "left" or "right" of any other, or "next" to it."""
        _one_of(relation, RELATIONS)
        if len(_things(some)) * len(_things(others)) > _MOST_PAIRS:
            raise UserError(
                f"{len(some)} things beside {len(others)} others are too many to compare: take "
                "larger ones, with --least"
            )
        return [
            thing
            for thing in _things(some)
            if any(other is not thing and self._lies(thing, relation, other) for other in others)
        ]

    def _lies(self, thing: Thing, relation: str, other: Thing) -> bool:
        row, column = other.centre
        if relation == "next":
            return gap(thing, other) < self._near
        return {
            "top": thing.rows.stop - 1 < row,
            "bottom": thing.rows.start > row,
            "left": thing.columns.stop - 1 < column,
            "right": thing.columns.start > column,
        }[relation]

    @property
    def _near(self) -> float:
        """In pixels."""
        if self.looker.metres is None:
            return NEAR_SHARE * max(self.looker.shape)
        return NEAR / self.looker.metres

    def place(self, some: Sequence[Thing]) -> str:
        """Where in the image most of them is: "top left", "center", ...; "nowhere" for none."""
        mask = union(_things(some), self.looker.shape)
        if not mask.any():
            return "nowhere"
        middle = [float(np.mean(axis)) for axis in np.nonzero(mask)]
        row, column = (value / side for value, side in zip(middle, mask.shape, strict=True))
        words = _third(row, ("top", "", "bottom")), _third(column, ("left", "", "right"))
        return " ".join(word for word in words if word) or "center"

    def functions(self) -> dict[str, Callable]:
        """By the names that programs have for them."""
        names = ("find", "exists", "count", "area", "share", "sized", "shaped", "where", "place")
        return {name: getattr(self, name) for name in names}


def _third(value: float, words: tuple[str, str, str]) -> str:
    return words[min(int(value * 3), 2)]


def _text(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"find({name!r}): give the name of a thing")
    return name


def _things(some: object) -> Sequence[Thing]:
    if not isinstance(some, list) or not all(isinstance(thing, Thing) for thing in some):
        raise UserError(f"{some!r} is no list of things: find(...) gives one")
    return some


def _one_of(word: object, known: tuple[str, ...]) -> None:
    if word not in known:
        raise UserError(f"{word!r}: use one of {', '.join(known)}")
