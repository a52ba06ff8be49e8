"""Which record a draw takes: shuffled epochs of one source, or of several by weight.

All of it follows from a key and the number of the draw: nothing is remembered from draw to draw.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from rsvl_jax.errors import UserError

Key = tuple[int, ...]
BLOCK = 1 << 16  # draws of which every part of a mixture has exactly its share
_CHOICES = 2**31  # in the key of a mixture's blocks; no part has this number


class Order(Protocol):
    """The record number of a draw, 0, 1, 2, ... without end."""

    def __call__(self, draw: int, /) -> int: ...


class Epochs:
    """Every record once an epoch, in a new order each time.

    Four bytes a record, for the current and the next epoch; Grain's own index_shuffle needs none,
    but takes up to a millisecond a draw on small data sets.
    """

    def __init__(self, key: Key, count: int):
        self._key, self._count = key, count
        self._kept: Mapping[int, np.ndarray] = {}

    def __call__(self, draw: int, /) -> int:
        epoch, position = divmod(draw, self._count)
        return int(self._permutation(epoch)[position])

    def _permutation(self, epoch: int) -> np.ndarray:
        found = self._kept.get(epoch)
        if found is None:
            found = np.arange(self._count, dtype=np.int32)
            _generator(*self._key, epoch).shuffle(found)
            # Threads may do so at once: they make the same, and replace the whole.
            self._kept = {e: p for e, p in self._kept.items() if abs(e - epoch) == 1} | {
                epoch: found
            }
        return found


class Mixed:
    """Draws of several sources by weight, each in epochs of its own.

    Of every `BLOCK` draws, source s has `quotas[s]`, in shuffled order. So its share is exact in
    the long run, that of a batch is as if by chance, and how often a source was drawn before a
    block is a product, which makes any draw as quick to find as the first.
    """

    def __init__(self, key: Key, counts: Sequence[int], quotas: Sequence[int]):
        """counts: records of each source, which are numbered on from one to the next."""
        self._key, self._quotas = key, tuple(quotas)
        self._offsets = np.cumsum([0, *counts[:-1]]).tolist()
        self._epochs = [Epochs((*key, part), count) for part, count in enumerate(counts)]
        self._kept: Mapping[int, tuple[np.ndarray, np.ndarray]] = {}

    def __call__(self, draw: int, /) -> int:
        block, position = divmod(draw, BLOCK)
        parts, ranks = self._block(block)
        part = int(parts[position])
        turn = block * self._quotas[part] + int(ranks[position])
        return self._offsets[part] + self._epochs[part](turn)

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The source of each draw, and how many draws of the block it had before; [BLOCK] each."""
        found = self._kept.get(block)
        if found is None:
            parts = np.repeat(np.arange(len(self._quotas), dtype=np.int32), self._quotas)
            _generator(*self._key, block, _CHOICES).shuffle(parts)
            ranks = np.empty(BLOCK, np.int32)
            for part, quota in enumerate(self._quotas):
                ranks[parts == part] = np.arange(quota, dtype=np.int32)
            found = parts, ranks
            self._kept = {b: p for b, p in self._kept.items() if abs(b - block) == 1} | {
                block: found
            }
        return found


def quotas(weights: Sequence[float]) -> list[int]:
    """Draws of each part in `BLOCK`, in proportion to positive weights; they add up to `BLOCK`.

    Raises UserError for weights that are not positive, or too small to be drawn at all.
    """
    if not weights or not all(0 < weight < float("inf") for weight in weights):
        raise UserError(f"weights {list(weights)} of a mixture: each must be a positive number")
    exact = np.asarray(weights, np.float64) * BLOCK / np.sum(weights, dtype=np.float64)
    found = np.floor(exact).astype(int)
    largest = np.argsort(found - exact, kind="stable")  # the largest remainder first
    found[largest[: BLOCK - int(found.sum())]] += 1
    if not found.all():
        low = weights[int(np.argmin(found))]
        raise UserError(
            f"weight {low} among {list(weights)} is less than one draw in {BLOCK}: raise it"
        )
    return found.tolist()


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key))
