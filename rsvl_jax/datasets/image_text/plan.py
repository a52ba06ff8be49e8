"""Between the passes: which rows stay, in which split, in which order, in which shard."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rsvl_jax.datasets.image_text import alike
from rsvl_jax.datasets.image_text.options import Options
from rsvl_jax.datasets.image_text.reader import SPLITS
from rsvl_jax.datasets.image_text.scan import HAS, UNNAMED
from rsvl_jax.errors import UserError

DUPLICATES = {
    "key": "duplicate key",
    "looks": "duplicate image",
    "captions": "duplicate caption",
}
_FLAG = {"looks": "image", "captions": "caption"}
_CELLS = 20  # with fewer places than these, holding out whole ones would be too coarse
_TRAIN = SPLITS.index("train")


@dataclass(frozen=True)
class Plan:
    """What is written.

    Attributes:
      orders: by split, numbers of its rows as they are to be stored, int64 [n].
      bounds: by split, where its shards begin and the last ends, in `orders`.
      duplicates: by reason, pairs int64 [n, 2]: row that is left out, row that stays.
      counts: by split, how many records have a place, captions, boxes, a label.
      held_out: what was held out where the source names no split: "" for nothing.
    """

    orders: dict[str, np.ndarray]
    bounds: dict[str, list[int]]
    duplicates: dict[str, np.ndarray]
    counts: dict[str, dict[str, int]]
    held_out: str

    def shards(self) -> list[tuple[str, int, int]]:
        """(split, number, how many) of every shard."""
        return [
            (split, number, len(bounds) - 1)
            for split, bounds in self.bounds.items()
            for number in range(len(bounds) - 1)
        ]


def plan(rows: np.ndarray, options: Options) -> Plan:
    """rows: ROWS [n], changed in place. Raises UserError where no row is left to train on."""
    duplicates = {
        reason: _drop_repeats(rows, name)
        for name, reason in DUPLICATES.items()
        if name not in _FLAG or _FLAG[name] in options.dedupe
    }
    held_out = _hold_out(rows, options)
    orders = {split: _shuffled(rows, number, options) for number, split in enumerate(SPLITS)}
    if not len(orders["train"]):
        raise UserError("no row is left to train on")
    bounds = {
        split: _bounds(rows["size"][order], options.shard_bytes)
        for split, order in orders.items()
        if len(order)
    }
    counts = {
        split: {name: int((rows["has"][order] & bit != 0).sum()) for name, bit in HAS.items()}
        for split, order in orders.items()
    }
    return Plan(orders, bounds, duplicates, counts, held_out)


def _drop_repeats(rows: np.ndarray, name: str) -> np.ndarray:
    """Leaves the first of equal rows, or of those that look alike; held out goes before training.

    So nothing that is trained on is also scored. Returns (left out, stays) int64 [n, 2].
    """
    trains = np.isin(rows["split"], (_TRAIN, UNNAMED))
    first, last = (np.flatnonzero(rows["kept"] & which) for which in (~trains, trains))
    order = np.concatenate([first, last])
    stays = alike.repeats(rows[name][order], alike.DISTANCE if name == "looks" else 0)
    repeated = np.flatnonzero(stays != np.arange(len(order), dtype=np.int32))
    pairs = np.stack([order[repeated], order[stays[repeated]]], 1)
    rows["kept"][pairs[:, 0]] = False
    return pairs[np.argsort(pairs[:, 0])]


def _hold_out(rows: np.ndarray, options: Options) -> str:
    """Gives every row a split: where the source names none, shares of whole places or of rows."""
    free = np.flatnonzero(rows["kept"] & (rows["split"] == UNNAMED))
    if not len(free):
        return ""
    named = {SPLITS[s] for s in np.unique(rows["split"][rows["kept"]]) if s != UNNAMED}
    cells = rows["cell"][free]
    places = len(np.unique(cells[cells > 0])) >= _CELLS
    # Rows without a place stand alone; neighbours, which share ground, stay together.
    units = np.where((cells > 0) & places, cells.astype(np.uint64), rows["key"][free])
    _, unit = np.unique(units, return_inverse=True)
    sizes = np.bincount(unit)
    drawn = np.random.default_rng(options.seed).permutation(len(sizes))
    split_of_unit = np.full(len(sizes), _TRAIN, np.uint8)
    start = 0
    for split in ("test", "validation"):
        share = 0.0 if split in named else getattr(options, split)
        stop = start + _reaching(sizes[drawn[start:]], share * len(free))
        split_of_unit[drawn[start:stop]] = SPLITS.index(split)
        start = stop
    rows["split"][free] = split_of_unit[unit]
    return ("cells of one degree" if places else "rows") if start else ""


def _reaching(sizes: np.ndarray, wanted: float) -> int:
    """How many of `sizes` it takes to sum to `wanted`; a unit always stays for what follows."""
    taken = int(np.searchsorted(np.cumsum(sizes), wanted - 1e-9)) + 1 if wanted else 0
    return min(taken, max(len(sizes) - 1, 0))


def _shuffled(rows: np.ndarray, split: int, options: Options) -> np.ndarray:
    order = np.flatnonzero(rows["kept"] & (rows["split"] == split))
    np.random.Generator(np.random.Philox((options.seed, split))).shuffle(order)
    return order


def _bounds(sizes: Sequence[int] | np.ndarray, shard_bytes: int) -> list[int]:
    """Cuts records of these sizes into shards of about equal bytes, none of them empty."""
    ends = np.cumsum(sizes, dtype=np.int64)
    count = min(max(1, round(int(ends[-1]) / shard_bytes)), len(ends))
    targets = ends[-1] * np.arange(1, count) / count
    inner = np.searchsorted(ends, targets)
    return [0, *np.unique(inner[(inner > 0) & (inner < len(ends))]).tolist(), len(ends)]
