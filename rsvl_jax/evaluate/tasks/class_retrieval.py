"""Images by the names of their classes: mean average precision of a ranked list."""

from dataclasses import replace

import numpy as np

from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import reading
from rsvl_jax.evaluation import average_precision, prompts, scoring, zeroshot
from rsvl_jax.evaluation.bootstrap import Draws, draws_of, percentile
from rsvl_jax.evaluation.card import Card

KS = (20, 100)  # GRAFT's
_DRAWS = 200  # of the images; average precision is no function of sums, each draw counts anew


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: test (split), prompts (a set or a file), names (spelling of the classes)."""
    test = reading.split(spec, "test", "test")
    labels = reading.labelled(test, spec)
    asked = prompts.load(
        test.classes,
        prompts=spec.options.get("prompts", "graft"),
        names=spec.options.get("names", "words"),
        of=spec.set,
    )
    card = subject.card(
        test,
        "class_retrieval",
        "images by the name of a class",
        reading.fit(spec),
        classes=list(asked.names),
        prompts=[list(texts) for texts in asked.texts],
        class_vector=asked.describe(),
        average_precision="over min(k, right images); of equal scores the wrong ones first",
        mean_over="classes that have an image",
    )
    seen = subject.features(test, reading.fit(spec))
    if subject.encoders.texts is None or "text_space" not in seen:
        metrics = [f"map@{k}" for k in KS]
        return scoring.not_applicable(card, metrics, "the model has no text encoder")
    scores = zeroshot.scores(seen["text_space"], prompts.vectors(asked, subject.texts)).T
    relevant = labels.T if test.multilabel else labels == np.arange(len(test.classes))[:, None]
    return _cards(card, scores, relevant, draws_of(test.blocks, card.seed))


def _cards(card: Card, scores: np.ndarray, relevant: np.ndarray, of: Draws) -> list[Card]:
    """scores float [C,n], relevant bool [C,n]."""
    drawn = of.counts(relevant.shape[1], _DRAWS)
    values = 100 * average_precision.mean_average_precision(scores, relevant, KS)
    draws = 100 * average_precision.mean_average_precision(scores, relevant, KS, drawn)
    return [
        replace(
            card,
            metric=f"map@{k}",
            value=float(values[place]),
            interval=percentile(draws[:, place]),
            interval_method=of.describe(_DRAWS),
            chance=100 * average_precision.chance(relevant, k),
        )
        for place, k in enumerate(KS)
    ]
