"""Which tiles of an index are searched, and which are nearest to each query."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graft_jax.map import queries
from graft_jax.search.index import Index, Places
from graft_jax.search.settings import Search
from graft_jax.towers import TextImageModel
from rsvl_jax.errors import UserError
from rsvl_jax.rasters.footprints import Box


@dataclass(frozen=True)
class Hit:
    """A tile that was found: its rank from 1, its cosine, and its row of the index as a dict."""

    rank: int
    score: float
    tile: dict[str, Any]

    @property
    def origin(self) -> str:
        """Name of the data set that the tile is of; "" for a scene, which the id names."""
        return "" if self.tile["source_crs"] else self.tile["source"]

    @property
    def date(self) -> str:
        """ISO date, "" where unknown."""
        return "" if self.tile["date"] is None else self.tile["date"].isoformat()


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
      queries: the texts, Q of them.
      places: the tiles that were searched, m of them · undated: how many of the index were not,
        for want of a date.
      scores: cosines float64 [m, Q].
      hits: the best of each query, best first.
    """

    queries: tuple[str, ...]
    places: Places
    undated: int
    scores: np.ndarray
    hits: Sequence[Sequence[Hit]]


def search(index: Index, model: TextImageModel, settings: Search) -> Found:
    """Ranks the tiles by their cosine to each query; equal ones keep the order of the index.

    Raises UserError for an index of another model, or where no tile is in the region and time.
    """
    index.check_model(model)
    places = index.places()
    rows, undated = _searched(places, settings)
    vectors = queries.vectors(model, settings.queries, settings.templates)
    scores, places = index.scores(vectors)[rows], places.take(rows)
    hits = []
    for column in scores.T:
        best = ranked(column, places, settings.top, settings.distinct)
        tiles = index.tiles(rows[best])
        scored = zip(column[best].tolist(), tiles, strict=True)
        hits.append([Hit(rank, score, tile) for rank, (score, tile) in enumerate(scored, 1)])
    return Found(settings.queries, places, undated, scores, hits)


def ranked(scores: np.ndarray, places: Places, top: int, distinct: bool) -> np.ndarray:
    """The rows of the `top` highest scores [m], best first.

    distinct: leave out what has its centre on a better one, so that overlapping tiles and scenes
    of the same ground show it once.
    """
    order = np.argsort(-scores, kind="stable")
    if not distinct:
        return order[:top]
    left = places.take(order)
    found: list[int] = []
    while len(order) and len(found) < top:
        found.append(int(order[0]))
        apart = ~left.inside(tuple(left.bbox[0]))
        apart[0] = False
        order, left = order[apart], left.take(apart)
    return np.array(found, int)


def _searched(places: Places, settings: Search) -> tuple[np.ndarray, int]:
    """Rows in the region and time asked for, and how many have no date where one is needed."""
    kept, undated = np.ones(len(places), bool), 0
    if settings.bbox is not None:
        kept &= places.inside(settings.bbox)
        if not kept.any():
            edges = ",".join(f"{edge:g}" for edge in settings.bbox)
            raise UserError(
                f"no tile in --bbox={edges}: those of {settings.index!r} are centred in "
                f"{_words(extent(places))}"
            )
    if settings.after or settings.before:
        undated = int(np.isnat(places.date[kept]).sum())
        kept &= places.between(settings.after, settings.before)
        if not kept.any():
            known = places.date[~np.isnat(places.date)]
            have = f"are of {known.min()} to {known.max()}" if len(known) else "have no dates"
            raise UserError(
                f"no tile from {settings.after or 'ever'} to {settings.before or 'now'} there: "
                f"those of {settings.index!r} {have}"
            )
    return np.flatnonzero(kept), undated


def extent(places: Places) -> Box:
    """W, S, E, N of the centres; E < W where that is the shorter way, across the antimeridian."""
    lon = np.unique(places.lon)
    gaps = np.diff(np.append(lon, lon[0] + 360))
    last = int(np.argmax(gaps))
    west, east = lon[(last + 1) % len(lon)], lon[last]
    return float(west), float(places.lat.min()), float(east), float(places.lat.max())


def _words(box: Box) -> str:
    return ",".join(f"{edge:.2f}" for edge in box) + " (W,S,E,N)"
