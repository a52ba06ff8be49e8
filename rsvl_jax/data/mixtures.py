"""Several sources as one, drawn by weight, each record turned into a sample in its source's way."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rsvl_jax.data.order import Epochs, Key, Mixed, Order, quotas
from rsvl_jax.data.pairs import Record, Sample, Source
from rsvl_jax.errors import UserError

PART = "part"  # the field of a record that tells its source


class Mixture:
    """The records of several sources one after another, each with its source's number as "part"."""

    def __init__(self, sources: Sequence[Source], weights: Sequence[float]):
        """Raises UserError for weights that cannot be, or a source without records."""
        if len(sources) != len(weights):
            raise UserError(f"{len(sources)} sources of a mixture have {len(weights)} weights")
        counts = [len(source) for source in sources]
        if not all(counts):
            raise UserError(f"part {counts.index(0)} of the mixture has no records")
        self.sources = tuple(sources)
        self._counts, self._quotas = counts, quotas(weights)
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int, /) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        part, number = self._place(index)
        return {**self.sources[part][number], PART: part}

    def order(self, key: Key) -> Order:
        """See `Mixed`."""
        return Mixed(key, self._counts, self._quotas)

    def another(self, index: int, rng: np.random.Generator) -> int:
        """A record of the same source, drawn anew."""
        part, number = self._place(index)
        return index - number + int(rng.integers(self._counts[part]))

    def _place(self, index: int) -> tuple[int, int]:
        part = int(np.searchsorted(self._ends, index, side="right"))
        return part, index - int(self._ends[part]) + self._counts[part]


class PartTransform:
    """Record of a `Mixture` to sample, by the transform of its source."""

    def __init__(self, transforms: Sequence[Callable[[Record, np.random.Generator], Sample]]):
        self.transforms = tuple(transforms)

    def __call__(self, record: Record, rng: np.random.Generator) -> Sample:
        return self.transforms[record[PART]](record, rng)


def order(source: Any, key: Key) -> Order:
    """How a source is drawn from: a mixture by weight, any other in shuffled epochs."""
    return source.order(key) if hasattr(source, "order") else Epochs(key, len(source))


def another(source: Any, index: int, rng: np.random.Generator) -> int:
    """A record to take in place of `index`, of the same part of a mixture."""
    if hasattr(source, "another"):
        return source.another(index, rng)
    return int(rng.integers(len(source)))
