"""Retrieval between images and texts, and between images and places, in both directions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from rsvl_jax.evaluation import retrieval, scoring
from rsvl_jax.evaluation.bootstrap import Statistic
from rsvl_jax.evaluation.card import Card, Reference
from rsvl_jax.evaluation.features import encode_locations, encode_texts
from rsvl_jax.evaluation.suite import UNTRAINED, Model, Setting, start_card


def _recall_at(sums: np.ndarray, position: int) -> np.ndarray:
    return retrieval.recalls(sums)[..., position]


def _mean_of_both(sums: np.ndarray) -> np.ndarray:
    """Mean of the six recalls: the tallies of the two directions stand side by side."""
    forth, back = np.split(sums, 2, axis=-1)
    return (retrieval.mean_recall(forth) + retrieval.mean_recall(back)) / 2


RECALLS: dict[str, Statistic] = {
    **{f"recall@{k}": partial(_recall_at, position=i) for i, k in enumerate(retrieval.KS)},
    "mean_recall": retrieval.mean_recall,
}
MEAN_OF_BOTH: dict[str, Statistic] = {"mean_recall": _mean_of_both}


@dataclass(frozen=True)
class _Pair:
    """What images are matched with.

    Attributes:
      name: "text" or "location".
      space: the image feature that shares its space.
      embed: the gallery of a model, [n,E], one row a test tile; None where it has none.
      relevant: bool [n,n], symmetric.
      protocol: for the cards.
    """

    name: str
    space: str
    embed: Callable[[Model], np.ndarray | None]
    relevant: np.ndarray
    protocol: dict[str, object]


def text_cards(setting: Setting, model: Model, untrained: Model | None) -> list[Card]:
    """Image to text and back: the first caption of each test tile, identical captions count."""
    captions = setting.test.captions.tolist()

    def embed(which: Model) -> np.ndarray | None:
        encode = which.encoders.texts
        if encode is None:
            return None
        return encode_texts(encode, captions, batch_size=setting.batch_size, mesh=setting.mesh)

    protocol: dict[str, object] = {
        "captions": "first of each tile, no prefix",
        "relevant": "every tile whose first caption is the identical string",
        "distinct_captions": len(set(captions)),
    }
    relevant = retrieval.identical(captions, captions)
    return _cards(setting, model, untrained, _Pair("text", "text_space", embed, relevant, protocol))


def location_cards(setting: Setting, model: Model, untrained: Model | None) -> list[Card]:
    """Image to location and back: the centre of each test tile, only its own is right."""
    test = setting.test

    def embed(which: Model) -> np.ndarray | None:
        encode = which.encoders.locations
        if encode is None:
            return None
        return encode_locations(
            encode, lon=test.lon, lat=test.lat, batch_size=setting.batch_size, mesh=setting.mesh
        )

    protocol: dict[str, object] = {
        "locations": "centre of each tile",
        "relevant": "the tile itself only, not its neighbours",
    }
    relevant = np.eye(len(test), dtype=bool)
    pair = _Pair("location", "location_space", embed, relevant, protocol)
    return _cards(setting, model, untrained, pair)


def _cards(setting: Setting, model: Model, untrained: Model | None, pair: _Pair) -> list[Card]:
    tasks = [f"image_to_{pair.name}", f"{pair.name}_to_image", f"image_{pair.name}"]
    protocol = {
        **pair.protocol,
        "gallery": "all scored tiles",
        "similarity": "cosine",
        "ties": "count against the model",
        "mean_recall": f"mean of recall@{retrieval.KS}, of both directions where both are named",
    }
    forth, back, both = (
        start_card(setting, model, f"retrieval/{task}", task.replace("_", " "), **protocol)
        for task in tasks
    )
    ours = _ranks(model, pair)
    if ours is None:
        reason = f"the objective trains no {pair.name} encoder"
        return [
            *scoring.not_applicable(forth, RECALLS, reason),
            *scoring.not_applicable(back, RECALLS, reason),
            *scoring.not_applicable(both, MEAN_OF_BOTH, reason),
        ]
    theirs = None if untrained is None else _ranks(untrained, pair)
    found = []
    for side, card in enumerate((forth, back)):
        other = None if theirs is None else theirs[side]
        found += _direction(setting, card, pair.relevant, ours[side], other)
    return found + _both(setting, both, pair.relevant, ours, theirs)


def _ranks(model: Model, pair: _Pair) -> tuple[np.ndarray, np.ndarray] | None:
    """Ranks image -> other and other -> image; None where the model has no such encoder."""
    gallery = pair.embed(model) if pair.space in model.test else None
    if gallery is None:
        return None
    images = model.test[pair.space]
    forth = retrieval.ranks(images, gallery, pair.relevant)
    return forth, retrieval.ranks(gallery, images, pair.relevant.T)


def _direction(
    setting: Setting, card: Card, relevant: np.ndarray, ours: np.ndarray, theirs: np.ndarray | None
) -> list[Card]:
    """Recalls of one direction, and the median rank (no interval: it is no function of sums)."""
    others = {} if theirs is None else {UNTRAINED: theirs}
    outcome = scoring.Outcome(
        examples=retrieval.tallies(ours),
        references={name: retrieval.tallies(found) for name, found in others.items()},
        chance=_chances(relevant),
        blocks=setting.blocks,
    )
    median = replace(
        card,
        metric="median_rank",
        unit="rank",
        value=float(np.median(ours)),
        n=len(ours),
        references=tuple(Reference(name, float(np.median(r))) for name, r in others.items()),
    )
    return [*scoring.cards(card, RECALLS, outcome), median]


def _both(
    setting: Setting,
    card: Card,
    relevant: np.ndarray,
    ours: tuple[np.ndarray, np.ndarray],
    theirs: tuple[np.ndarray, np.ndarray] | None,
) -> list[Card]:
    def examples(ranks: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return np.concatenate([retrieval.tallies(side) for side in ranks], axis=1)

    outcome = scoring.Outcome(
        examples=examples(ours),
        references={} if theirs is None else {UNTRAINED: examples(theirs)},
        # The relevance is symmetric, so chance is the same in both directions.
        chance=_chances(relevant),
        blocks=setting.blocks,
    )
    return scoring.cards(card, MEAN_OF_BOTH, outcome)


def _chances(relevant: np.ndarray) -> dict[str, float]:
    each = [retrieval.chance(relevant, k) for k in retrieval.KS]
    return dict(zip(RECALLS, [*each, float(np.mean(each))], strict=True))
