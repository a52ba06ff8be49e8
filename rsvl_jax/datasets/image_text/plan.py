"""Between the passes: which rows stay, in which split, in which order, in which shard."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rsvl_jax.datasets.image_text import alike, scratch
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
_GROUPS_FROM = 181 * 361 + 1  # numbers of cells end here, see `scan`
_UNITS = _GROUPS_FROM + 2**16


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


def plan(rows: np.ndarray, options: Options, folder: str) -> Plan:
    """rows: ROWS [n], changed in place. folder: for what is as long as they are.

    Raises UserError where no row is left to train on.
    """
    duplicates = {
        reason: _drop_repeats(rows, name)
        for name, reason in DUPLICATES.items()
        if name not in _FLAG or _FLAG[name] in options.dedupe
    }
    held_out = _hold_out(rows, options)
    orders = {
        split: _shuffled(rows, number, options, folder) for number, split in enumerate(SPLITS)
    }
    if not len(orders["train"]):
        raise UserError("no row is left to train on")
    bounds = {
        split: _bounds(rows["size"], order, options.shard_bytes)
        for split, order in orders.items()
        if len(order)
    }
    counts = {split: _counts(rows["has"], order) for split, order in orders.items()}
    return Plan(orders, bounds, duplicates, counts, held_out)


def _drop_repeats(rows: np.ndarray, name: str) -> np.ndarray:
    """Leaves the first of equal rows, or of those that look alike; held out goes before training.

    So nothing that is trained on is also scored. Returns (left out, stays) int64 [n, 2].
    """
    found = [np.zeros((0, 2), np.int64)]
    nearly = name == "looks"  # by distance, hashes of any two ranges may be near
    for part in [np.arange(len(rows))] if nearly else scratch.parts(rows[name]):
        kept = part[rows["kept"][part]]
        trains = np.isin(rows["split"][kept], (_TRAIN, UNNAMED))
        order = np.concatenate([kept[~trains], kept[trains]])
        stays = alike.repeats(rows[name][order], alike.DISTANCE if nearly else 0)
        repeated = np.flatnonzero(stays != np.arange(len(order), dtype=np.int32))
        found.append(np.stack([order[repeated], order[stays[repeated]]], 1))
    pairs = np.concatenate(found)
    rows["kept"][pairs[:, 0]] = False
    return pairs[np.argsort(pairs[:, 0])]


def _hold_out(rows: np.ndarray, options: Options) -> str:
    """Gives every row a split: where the source names none, shares of whole places or of rows."""
    named, cells, free = _look(rows)
    if not free:
        return ""
    places = bool(np.count_nonzero(cells[1:]) >= _CELLS)
    sizes = np.zeros(_UNITS, np.int64)
    for window in _free(rows):
        sizes += np.bincount(_units(rows[window], places), minlength=_UNITS)
    units = np.flatnonzero(sizes)
    drawn = units[np.random.default_rng(options.seed).permutation(len(units))]
    split_of_unit = np.full(_UNITS, _TRAIN, np.uint8)
    start = 0
    for split in ("test", "validation"):
        share = 0.0 if split in named else getattr(options, split)
        stop = start + _reaching(sizes[drawn[start:]], share * free)
        split_of_unit[drawn[start:stop]] = SPLITS.index(split)
        start = stop
    for window in _free(rows):
        rows["split"][window] = split_of_unit[_units(rows[window], places)]
    return ("cells of one degree" if places else "rows") if start else ""


def _look(rows: np.ndarray) -> tuple[set[str], np.ndarray, int]:
    """Splits that kept rows are in, kept rows without one by cell, and how many those are."""
    named: set[int] = set()
    cells = np.zeros(_GROUPS_FROM, np.int64)
    for window in scratch.windows(len(rows)):
        some = rows[window][rows["kept"][window]]
        named |= {int(split) for split in np.unique(some["split"])}
        free = some["cell"][some["split"] == UNNAMED]
        cells += np.bincount(free, minlength=_GROUPS_FROM)
    return {SPLITS[s] for s in named if s != UNNAMED}, cells, int(cells.sum())


def _free(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of the kept rows without a split, a window at a time."""
    for window in scratch.windows(len(rows)):
        free = rows["kept"][window] & (rows["split"][window] == UNNAMED)
        yield np.flatnonzero(free) + window.start


def _units(rows: np.ndarray, places: bool) -> np.ndarray:
    """What is held out together: neighbours, which share ground; of rows without a place, or of all
    where places do not count, those whose names have a hash in common, some of very many."""
    groups = (rows["key"] >> np.uint64(48)).astype(np.int64) + _GROUPS_FROM
    if not places:
        return groups
    return np.where(rows["cell"] > 0, rows["cell"], groups)


def _reaching(sizes: np.ndarray, wanted: float) -> int:
    """How many of `sizes` it takes to sum to `wanted`; a unit always stays for what follows."""
    taken = int(np.searchsorted(np.cumsum(sizes), wanted - 1e-9)) + 1 if wanted else 0
    return min(taken, max(len(sizes) - 1, 0))


def _shuffled(rows: np.ndarray, split: int, options: Options, folder: str) -> np.ndarray:
    """Numbers of the kept rows of a split in their stored order, int64 [n]."""
    whole = scratch.array(folder, np.int64, len(rows))
    used = 0
    for window in scratch.windows(len(rows)):
        some = np.flatnonzero(rows["kept"][window] & (rows["split"][window] == split))
        whole[used : used + len(some)] = some + window.start
        used += len(some)
    order = whole[:used]
    np.random.Generator(np.random.Philox((options.seed, split))).shuffle(order)
    return order


def _counts(has: np.ndarray, order: np.ndarray) -> dict[str, int]:
    """How many of the rows in `order` have what `has` says, by name."""
    counts = dict.fromkeys(HAS, 0)
    for window in scratch.windows(len(order)):
        bits = has[order[window]]
        for name, bit in HAS.items():
            counts[name] += int(np.count_nonzero(bits & bit))
    return counts


def _bounds(sizes: np.ndarray, order: np.ndarray, shard_bytes: int) -> list[int]:
    """Cuts records, sizes[order], into shards of about equal bytes, none of them empty."""
    total = 0
    for ends in _ends(sizes, order):
        total = int(ends[-1])
    count = min(max(1, round(total / shard_bytes)), len(order))
    targets = total * np.arange(1, count) / count
    inner = np.zeros(len(targets), np.int64)
    for ends in _ends(sizes, order):
        inner += np.searchsorted(ends, targets)
    return [0, *np.unique(inner[(inner > 0) & (inner < len(order))]).tolist(), len(order)]


def _ends(sizes: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
    """Where each record ends, a window at a time."""
    start = 0
    for window in scratch.windows(len(order)):
        ends = np.cumsum(sizes[order[window]], dtype=np.int64) + start
        yield ends
        start = int(ends[-1])
