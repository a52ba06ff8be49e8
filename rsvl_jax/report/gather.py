"""Illustrations from embeddings: which queries to show, what was ranked, similarity to a city."""

import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import jax
import numpy as np

from rsvl_jax.evaluation import retrieval
from rsvl_jax.evaluation.vectors import normalize
from rsvl_jax.report.illustrations import CaptionRetrievals, ImageRetrievals, Similarity

Embed = Callable[[np.ndarray, np.ndarray], np.ndarray]


def retrievals(
    *,
    images: np.ndarray,
    captions: Sequence[str],
    image_vectors: np.ndarray,
    text_vectors: np.ndarray,
    shown: int = 4,
    top: int = 5,
    seed: int = 0,
) -> tuple[CaptionRetrievals, ImageRetrievals]:
    """The best and the worst retrievals in both directions, `shown` of each.

    images uint8 [n,H,W,3]; captions [n], one an image; image_vectors, text_vectors float [n,E]
    in one space (normalised here). As in the scores, identical captions are right answers for
    one another; among the answers shown a caption stands once. Among queries of equal rank the
    draw is random, from `seed`.
    """
    texts = np.asarray(captions, np.str_)
    right = retrieval.identical(captions, captions)
    scores = normalize(image_vectors) @ normalize(text_vectors).T
    rng = np.random.default_rng(seed)
    # Each caption once, as query and as answer: five times the same string would show nothing.
    distinct = np.sort(np.unique(texts, return_index=True)[1])
    ranks, q = _best_and_worst(scores, right, distinct, shown, rng)
    order = distinct[_highest(scores[q][:, distinct], top)]
    hits = np.take_along_axis(right[q], order, axis=1)
    to_text = CaptionRetrievals(images[q], texts[q], texts[order], hits, ranks, len(texts))
    ranks, q = _best_and_worst(scores.T, right, distinct, shown, rng)
    order = _highest(scores.T[q], top)
    hits = np.take_along_axis(right[q], order, axis=1)
    return to_text, ImageRetrievals(texts[q], images[order], hits, ranks, len(texts))


def _best_and_worst(
    scores: np.ndarray,
    right: np.ndarray,
    queries: np.ndarray,
    shown: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks and indices of those of `queries` with the lowest and the highest ranks, best first."""
    ranks = retrieval.ranks_from_scores(scores, right)
    order = rng.permutation(queries)
    order = order[np.argsort(ranks[order], kind="stable")]
    shown = min(shown, len(order) // 2)
    chosen = np.concatenate([order[:shown], order[len(order) - shown :]])
    return ranks[chosen], chosen


def _highest(scores: np.ndarray, top: int) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :top]


def similarity(
    embed: Embed, *, name: str, lon: float, lat: float, shape: tuple[int, int] = (180, 360)
) -> Similarity:
    """Cosine similarity of the cells of a global grid to a city.

    embed(lon [n], lat [n]) -> float [n,E], degrees; shape: rows (north first) and columns.
    """
    rows, columns = shape
    lats = 90 - (np.arange(rows) + 0.5) * 180 / rows
    lons = -180 + (np.arange(columns) + 0.5) * 360 / columns
    grid_lon, grid_lat = np.meshgrid(lons, lats)
    places = np.stack([np.append(grid_lon, lon), np.append(grid_lat, lat)]).astype(np.float32)
    vectors = normalize(embed(places[0], places[1]))
    return Similarity(name, lon, lat, (vectors[:-1] @ vectors[-1]).reshape(shape))


def machine_facts() -> dict[str, str]:
    """Hardware and date of this moment, for `Illustrations.facts`."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        hardware = f"{os.cpu_count()} CPU cores ({_processor()})"
    else:
        hardware = f"{jax.device_count()} × {device.device_kind}"
    if jax.process_count() > 1:
        hardware += f", {jax.process_count()} processes"
    return {"hardware": hardware, "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1] for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return " ".join(names[0].split()) if names else platform.processor() or platform.machine()
