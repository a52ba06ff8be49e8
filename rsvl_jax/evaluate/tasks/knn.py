"""kNN on frozen features."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import POOLINGS, Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import accuracies, reading
from rsvl_jax.evaluation import knn
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation_sets.collection import Collection

Features = Mapping[str, np.ndarray]


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: train, test (splits), k, metric ("l2", "cosine"), temperature, pooling, resolutions.

    resolutions: shares of their pixels a side that test images keep, training images keeping all;
    each is scored, and the mean over them, as Scale-MAE reports it.
    """
    train, test = (reading.split(spec, name, name) for name in ("train", "test"))
    fit, shares = reading.fit(spec), _resolutions(spec)
    protocol = knn.Knn(
        spec.options.get("k", 5), spec.options.get("metric", "l2"), spec.options.get("temperature")
    )
    learned = subject.features(train, fit)
    seen = [subject.features(test, fit, share) for share in shares]
    each = [_cards(subject, spec, protocol, (train, test), (learned, s)) for s in seen]
    if shares == [1.0]:
        return each[0]
    at = zip(shares, each, strict=True)
    marked = [_marked(card, f"{100 * s:g}%", f"{100 * s:g} %") for s, cards in at for card in cards]
    words = "mean over " + ", ".join(f"{100 * share:g} %" for share in shares)
    return marked + [_marked(_mean(own), "mean", words) for own in zip(*each, strict=True)]


def _resolutions(spec: Spec) -> list[float]:
    shares = spec.options.get("resolutions", [1.0])
    for share in shares:
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise UserError(f"task {spec.name!r}: resolution {share!r} must be above 0, at most 1")
    return [float(share) for share in shares]


def _cards(
    subject: Subject,
    spec: Spec,
    protocol: knn.Knn,
    splits: tuple[Collection, Collection],
    features: tuple[Features, Features],
) -> list[Card]:
    (train, test), (learned, seen) = splits, features
    labels, _ = (reading.labelled(of, spec) for of in splits)
    found = []
    for pooling in reading.poolings(subject, spec, seen, ("mean", "cls")):
        scores = knn.votes(
            protocol,
            train=learned[pooling],
            train_labels=labels,
            test=seen[pooling],
            num_classes=len(test.classes),
            mesh=subject.mesh,
        )
        card = subject.card(
            test,
            f"knn_{protocol.metric}_k{protocol.k}/{pooling}",
            f"kNN, k={protocol.k} {protocol.metric}, {pooling}",
            reading.fit(spec),
            **protocol.describe(),
            pooling=POOLINGS[pooling],
            classes=list(test.classes),
            train=[train.split, train.fingerprint(), len(train)],
        )
        found += accuracies.cards(card, scores, test, test.classes)
    return found


def _marked(card: Card, mark: str, words: str) -> Card:
    """With the resolution in its name."""
    head, pooling = card.task.rsplit("/", 1)
    protocol = {**card.protocol, "resolution": f"{words} of the pixels a side of test images"}
    title = f"{card.title}, resolution {words}"
    return replace(card, task=f"{head}@{mark}/{pooling}", title=title, protocol=protocol)


def _mean(cards: Sequence[Card]) -> Card:
    """One score over the resolutions; no interval: their images are the same."""
    value = float(np.mean([card.value for card in cards]))
    return replace(cards[0], value=value, interval=None, interval_method="", per_class={})
