"""Confidence intervals by a bootstrap over geographic blocks.

Neighbouring tiles resemble one another: a thousand test tiles of twenty blocks hold far fewer
than a thousand independent observations. Whole blocks are therefore drawn with replacement, and
never single tiles.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
REPLICATES = 1000

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Blocks:
    """Draws of whole blocks, made once and shared by all statistics of a test set.

    Attributes:
      member: int [n], the block (0..blocks-1) of each example.
      draws: float64 [replicates, blocks], how often each block was drawn.
      unit: what the blocks are.
    """

    member: np.ndarray
    draws: np.ndarray
    unit: str = "geographic blocks"

    @classmethod
    def draw(
        cls, blocks: np.ndarray, *, seed: int, replicates: int = REPLICATES, unit: str = unit
    ) -> "Blocks":
        """From the block id of each example, int [n]."""
        ids, member = np.unique(np.asarray(blocks), return_inverse=True)
        chances = np.full(len(ids), 1 / len(ids))
        draws = np.random.default_rng(seed).multinomial(len(ids), chances, size=replicates)
        return cls(member=member.reshape(-1), draws=draws.astype(np.float64), unit=unit)

    def take(self, rows: np.ndarray) -> "Blocks":
        """The same draws for a subset of the examples."""
        return Blocks(member=self.member[rows], draws=self.draws, unit=self.unit)

    def replicates(self, examples: np.ndarray, statistic: Statistic) -> np.ndarray:
        """The statistic of each draw, float64 [replicates].

        examples [n,M]: what each example adds to the sums that the statistic is a function of;
        statistic maps summed examples [..., M] to [...], such as `classification.accuracy`.
        Replicates of two models can be subtracted: both saw the same draws.
        """
        return np.asarray(statistic(self.draws @ self.sums(examples)), np.float64)

    def sums(self, examples: np.ndarray) -> np.ndarray:
        """Examples [n,M] summed by block, float64 [blocks, M]: all that a bootstrap needs."""
        found = np.zeros((self.draws.shape[1], examples.shape[1]))
        np.add.at(found, self.member, examples)
        return found

    def counts(self, n: int, count: int) -> np.ndarray:
        """How often each of the n examples counts in the first `count` draws, float64 [count,n]."""
        return self.draws[:count, self.member]

    def describe(self, count: int = 0) -> str:
        """The method in words, for a card; of the first `count` draws, 0 for all."""
        all_, blocks = self.draws.shape
        return f"{LEVEL:.0%} percentile bootstrap over {blocks} {self.unit}, {count or all_} draws"


def percentile(replicates: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The central interval of the replicates that are numbers: (low, high)."""
    tail = (1 - level) / 2
    low, high = np.nanquantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class Images:
    """Draws of single images, where nothing is known of what they have in common.

    Attributes:
      seed: of the draws. count: how many there are.
    """

    seed: int
    count: int = REPLICATES

    def take(self, rows: np.ndarray) -> "Images":
        """The same for a subset of the examples."""
        return self

    def replicates(self, examples: np.ndarray, statistic: Statistic) -> np.ndarray:
        """The statistic of each draw, float64 [count]; as `Blocks.replicates`.

        Equal examples are drawn together, which makes a multinomial of their numbers.
        """
        kinds, counts = np.unique(examples, axis=0, return_counts=True)
        rng = np.random.default_rng(self.seed)
        found = []
        for start in range(0, self.count, _DRAWS):
            some = min(_DRAWS, self.count - start)
            drawn = rng.multinomial(len(examples), counts / counts.sum(), some)
            found.append(np.asarray(statistic(drawn @ kinds), np.float64))
        return np.concatenate(found)

    def counts(self, n: int, count: int) -> np.ndarray:
        """How often each of n examples counts in `count` draws, int64 [count,n]."""
        return np.random.default_rng(self.seed).multinomial(n, np.full(n, 1 / n), count)

    def describe(self, count: int = 0) -> str:
        """The method in words, for a card; of `count` draws, 0 for all."""
        return f"{LEVEL:.0%} percentile bootstrap over images, {count or self.count} draws"


_DRAWS = 100  # at a time: of very many kinds


Draws = Blocks | Images
# What data sets on disk say of which images stand together: a scene, a place, a product.
GROUPS = "groups of images of one place or scene"


def draws_of(blocks: np.ndarray | None, seed: int) -> Draws:
    """Of what stands together, int [n]; of single images where nothing is known of that."""
    return Images(seed) if blocks is None else Blocks.draw(blocks, seed=seed, unit=GROUPS)
