"""Ridge regression on a few examples of each class."""

from dataclasses import replace

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import POOLINGS, Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import reading
from rsvl_jax.evaluation import few_shot
from rsvl_jax.evaluation.card import Card


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: train, val, test (splits), pooling, shots, seeds. The mean over seeds."""
    splits = [reading.split(spec, name, name) for name in ("train", "val", "test")]
    if splits[0].multilabel:
        raise UserError(
            f"task {spec.name!r}: {spec.set} has several labels an image, so examples of a class "
            "cannot be drawn: use kNN or a linear probe"
        )
    labels = [reading.labelled(of, spec) for of in splits]
    seen = [subject.features(of, reading.fit(spec)) for of in splits]
    found = []
    for pooling in reading.poolings(subject, spec, seen[2], ("mean", "cls")):
        own = [(features[pooling], y) for features, y in zip(seen, labels, strict=True)]
        card = subject.card(
            splits[2],
            f"few_shot/{pooling}",
            f"ridge few-shot, {pooling}",
            reading.fit(spec),
            probe="ridge regression to -1 and 1, features standardised by the shots",
            strength="best mean accuracy on val",
            pooling=POOLINGS[pooling],
            classes=list(splits[2].classes),
            val=[splits[1].fingerprint(), len(splits[1])],
        )
        seeds = int(spec.options.get("seeds", few_shot.SEEDS))
        for shots in spec.options.get("shots", few_shot.SHOTS):
            found.append(_card(card, own, len(splits[2].classes), int(shots), seeds))
    return found


def _card(
    card: Card, own: list[tuple[np.ndarray, np.ndarray]], classes: int, shots: int, seeds: int
) -> Card:
    (features, labels), val, (test, truth) = own
    rows = [few_shot.draw(labels, shots, classes, card.seed + seed) for seed in range(seeds)]
    ridges = [few_shot.Ridge.fit(features[row], labels[row], classes) for row in rows]
    l2 = few_shot.strength(ridges, val)
    each = [100 * float((r.scores(test, l2).argmax(axis=1) == truth).mean()) for r in ridges]
    deviation = float(np.std(each, ddof=1)) if seeds > 1 else 0.0
    protocol = {
        **card.protocol,
        "shots": shots,
        "l2": l2,
        "by_seed": [round(value, 2) for value in each],
        "standard_deviation_over_seeds": round(deviation, 2),
    }
    return replace(
        card,
        metric=f"accuracy_{shots}_shots",
        value=float(np.mean(each)),
        chance=100 / classes,
        protocol=protocol,
        note=f"mean over {seeds} draws of the shots",
    )
