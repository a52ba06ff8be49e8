"""Where things are in an image: by masks that are known, or by similarity to their names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from rsvl_jax.errors import UserError

# What else a pixel may be: a thing is where its name is nearer than all of these. Plain words for
# land without the thing; a closed list of classes does better where it is known.
BACKGROUND = ("ground", "vegetation", "bare land", "water", "something else")

_MOST = 2**30  # cosines at a time: 4 GiB


@dataclass(frozen=True)
class Masks:
    """Things whose masks are known, bool [H,W] by name. metres: side of a pixel."""

    masks: Mapping[str, np.ndarray]
    metres: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return next(iter(self.masks.values())).shape

    def mask(self, name: str) -> np.ndarray:
        """Raises UserError for a name without a mask."""
        if name not in self.masks:
            raise UserError(f"nothing is known of {name!r}, but of {', '.join(self.masks)}")
        return self.masks[name]


@dataclass(frozen=True)
class Similarities:
    """Things by the similarity of pixels to their names.

    A pixel shows a thing where the cosine with its name exceeds that with every background word,
    other than the thing itself, by more than `margin`. What is not valid shows nothing.

    Attributes:
      scores: names -> cosines float32 [Q,H,W], NaN where the image is not valid.
      background: words for what else there is. margin: in cosine.
      seen: what was looked for, with its mask, for the evidence.
    """

    scores: Callable[[Sequence[str]], np.ndarray]
    shape: tuple[int, int]
    metres: float | None = None
    background: tuple[str, ...] = BACKGROUND
    margin: float = 0.0
    seen: dict[str, np.ndarray] = field(default_factory=dict)
    _kept: dict[str, np.ndarray] = field(default_factory=dict)

    def mask(self, name: str) -> np.ndarray:
        """Pixels that show it, bool [H,W]."""
        self.look([name])
        return self.seen[name]

    def look(self, names: Sequence[str]) -> None:
        """Looks for names at once, which is cheaper than for one after the other.

        Raises UserError for more names than fit into memory, and for a name without any other
        background word.
        """
        new = [name for name in dict.fromkeys(names) if name not in self.seen]
        if not new:
            return
        wanted = [
            word for word in dict.fromkeys([*new, *self.background]) if word not in self._kept
        ]
        rows, columns = self.shape
        if len(wanted) * rows * columns > _MOST:
            raise UserError(
                f"{len(wanted)} names in an image of {rows} x {columns} pixels are too many: use "
                "fewer, or a smaller image"
            )
        found = dict(self._kept)
        if wanted:
            found |= dict(zip(wanted, self.scores(wanted), strict=True))
        self._kept.update({word: found[word] for word in self.background})
        for name in new:
            others = [found[word] for word in self.background if word != name]
            if not others:
                raise UserError(f"{name!r} is the only background word: give another one")
            self.seen[name] = found[name] > reduce(np.maximum, others) + self.margin
