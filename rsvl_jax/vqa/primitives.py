"""What a program can ask of an image. Each primitive is a method; nothing else can be called.

Sizes, shapes and relations follow RSVQA (Lobry et al. 2020, the released question builder), as far
as masks allow: small is below 100 m2, large from 500 m2 on; a thing is left of another where all of
it lies left of the other's middle, and next to it within 1,000 m. Shapes are those of boxes, since
a mask has no corners to count: a rectangle fills at least RECTANGLE of its box, a circle between
CIRCLE of it. Where the ground is not known, areas are pixels and 1,000 m are a tenth of the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.vqa.interpreter import said
from rsvl_jax.vqa.objects import Thing, boxes, gaps, things, union

SMALL, LARGE = 100.0, 500.0  # m2
NEAR = 1000.0  # m
NEAR_SHARE = 0.1  # of the longer side
RECTANGLE = 0.85
CIRCLE = (0.6, 0.95)
SQUARE = 0.9  # shorter side over longer side
MOST_NAMES = 32  # that one image is searched for
_MOST_LABELS = 2**29  # pixels of all names together: 2 GiB
_MOST_PAIRS = 4_000_000
_ROWS = 64  # things that are compared with all others at once
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
    _found: dict[str, list[Thing]] = field(default_factory=dict, repr=False, compare=False)

    def find(self, name: str) -> list[Thing]:
        """All things of a name; the same ones each time, so that none is beside itself."""
        if _text(name) not in self._found:
            rows, columns = self.looker.shape
            names = len(self._found) + 1
            if names > MOST_NAMES or names * rows * columns > _MOST_LABELS:
                raise UserError(
                    f"{names} names in an image of {rows} x {columns} pixels are too many: use "
                    "fewer, or a smaller image"
                )
            mask = self.looker.mask(name)
            found = things(mask, least=self.least, metres=self.looker.metres)
            self._found[name] = found
        return self._found[name]

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
        if not _things(some) or not _things(others):
            return []
        if relation == "next":
            return self._next(some, others)
        # A thing lies left of some middle if it lies left of the rightmost; never of its own.
        centres = np.array([other.centre for other in others])
        (first_row, first_column), (last_row, last_column) = (
            centres.min(axis=0),
            centres.max(axis=0),
        )
        tests: dict[str, Callable[[Thing], bool]] = {
            "top": lambda thing: thing.rows.stop - 1 < last_row,
            "bottom": lambda thing: thing.rows.start > first_row,
            "left": lambda thing: thing.columns.stop - 1 < last_column,
            "right": lambda thing: thing.columns.start > first_column,
        }
        return [thing for thing in some if tests[relation](thing)]

    def _next(self, some: Sequence[Thing], others: Sequence[Thing]) -> list[Thing]:
        if len(some) * len(others) > _MOST_PAIRS:
            raise UserError(
                f"{len(some)} things beside {len(others)} others are too many to compare: take "
                "larger ones, with --least"
            )
        theirs, place = boxes(others), {other: row for row, other in enumerate(others)}
        found: list[Thing] = []
        for start in range(0, len(some), _ROWS):
            part = some[start : start + _ROWS]
            near = gaps(boxes(part), theirs) < self._near**2
            for row, thing in enumerate(part):
                if thing in place:
                    near[row, place[thing]] = False
            rows = np.flatnonzero(near.any(axis=1))
            found += [part[row] for row in rows.tolist()]
        return found

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
        raise UserError(f"find({said(name)}): give the name of a thing")
    return name


def _things(some: object) -> Sequence[Thing]:
    if not isinstance(some, list) or not all(isinstance(thing, Thing) for thing in some):
        raise UserError(f"{said(some)} is no list of things: find(...) gives one")
    return some


def _one_of(word: object, known: tuple[str, ...]) -> None:
    if not isinstance(word, str) or word not in known:
        raise UserError(f"{said(word)}: use one of {', '.join(known)}")
