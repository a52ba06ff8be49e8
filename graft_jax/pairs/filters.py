"""Limits that only the whole collection can tell: duplicates, bursts, busy owners."""

import numpy as np

from graft_jax.pairs.counts import Counts
from graft_jax.pairs.hashing import mix
from graft_jax.pairs.photos import Photos
from graft_jax.pairs.settings import Settings

_SPOT = 1e-4  # degrees: 11 m, what a telephone's position is good for


def apply(photos: Photos, settings: Settings, counts: Counts) -> Photos:
    """The photos that are left; the others are counted by reason.

    Of photos with one id, the first read stays. Of one owner's photos at one spot on one day, and
    of all of one owner's, those with the lowest priority number stay.
    """
    photos = _keep(photos, first_rows(photos.key), "id comes again", counts)
    if settings.per_spot:
        group = _spots(photos)
        rank = rank_within(group, photos.priority(settings.seed))
        kept = (rank < settings.per_spot) | (photos.owner == 0)
        photos = _keep(photos, kept, "one owner's, same spot and day", counts)
    if settings.per_owner:
        rank = rank_within(photos.owner, photos.priority(settings.seed))
        kept = (rank < settings.per_owner) | (photos.owner == 0)
        photos = _keep(photos, kept, "over the limit of its owner", counts)
    return photos


def _keep(photos: Photos, kept: np.ndarray, reason: str, counts: Counts) -> Photos:
    counts.skip("photo", reason, len(kept) - kept.sum())
    return photos if kept.all() else photos.take(kept)


def _spots(photos: Photos) -> np.ndarray:
    group = photos.owner
    for place in (photos.lon, photos.lat):
        group = mix(group ^ np.round(place / _SPOT).astype(np.int64).astype(np.uint64))
    return mix(group ^ photos.day.astype(np.int64).astype(np.uint64))


def first_rows(values: np.ndarray) -> np.ndarray:
    """True at the first of equal values, bool [n]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.empty(len(values), bool)
    first[order] = np.append(True, ordered[1:] != ordered[:-1])[: len(values)]
    return first


def rank_within(group: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """Place of each row among the rows of its group by priority, lowest first: int64 [n]."""
    order = np.lexsort((priority, group))
    ordered = group[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(group)])
    rank = np.empty(len(group), np.int64)
    lengths = np.diff(np.append(starts, len(group)))
    rank[order] = np.arange(len(group)) - np.repeat(starts, lengths)
    return rank
