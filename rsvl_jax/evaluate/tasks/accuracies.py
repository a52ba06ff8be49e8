"""Cards of class scores: accuracies where an image has one label, average precision for several."""

from dataclasses import replace
from functools import partial

import numpy as np

from rsvl_jax.evaluation import classification, multilabel, scoring
from rsvl_jax.evaluation.bootstrap import Draws, draws_of, percentile
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation_sets.collection import Collection

_DRAWS = 200  # torchgeo-bench's; average precision is no function of sums, each draw sorts
_TOP = 5


def cards(card: Card, scores: np.ndarray, of: Collection, classes: tuple[str, ...]) -> list[Card]:
    """card: template. scores float [n,C] of images that have labels, higher is better.

    classes: their names, as they were asked for.
    """
    labels, draws = of.labels, draws_of(of.blocks, card.seed)
    assert labels is not None
    if labels.ndim == 2:
        return _several(card, scores, labels, classes, draws)
    tallies = classification.tallies(scores.argmax(axis=1), labels, len(classes))
    metrics = {
        "accuracy": classification.accuracy,
        "balanced_accuracy": classification.balanced_accuracy,
    }
    outcome = scoring.Outcome(
        examples=tallies,
        chance=dict.fromkeys(metrics, 1 / len(classes)),
        blocks=draws,
        per_class={"balanced_accuracy": classification.per_class_recall},
        class_names=classes,
    )
    found = scoring.cards(card, metrics, outcome)
    return found + _top(card, scores, labels, draws) if len(classes) > _TOP else found


def _top(card: Card, scores: np.ndarray, labels: np.ndarray, draws: Draws) -> list[Card]:
    hits = classification.topk_hits(scores, labels, _TOP).astype(np.float64)
    outcome = scoring.Outcome(
        examples=np.stack([hits, np.ones_like(hits)], axis=1),
        chance={f"accuracy@{_TOP}": _TOP / scores.shape[1]},
        blocks=draws,
    )
    return scoring.cards(card, {f"accuracy@{_TOP}": lambda s: s[..., 0] / s[..., 1]}, outcome)


def _several(
    card: Card, scores: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], draws: Draws
) -> list[Card]:
    drawn = draws.counts(len(scores), _DRAWS)
    each = 100 * multilabel.per_class(scores, labels)
    found = []
    for name, metric in (("map_macro", multilabel.macro), ("map_micro", multilabel.micro)):
        of = partial(metric, scores, labels)
        found.append(
            replace(
                card,
                metric=name,
                value=100 * float(of()),
                interval=percentile(np.array([100 * float(of(draw)) for draw in drawn])),
                interval_method=draws.describe(_DRAWS),
                chance=100 * float(labels.mean()),
                per_class={n: v for n, v in zip(classes, each.tolist(), strict=True) if v == v}
                if name == "map_macro"
                else {},
            )
        )
    return found


def decided(card: Card, logits: np.ndarray, of: Collection, classes: tuple[str, ...]) -> list[Card]:
    """F1 of the labels whose logit is above 0, a probability of a half; of several labels."""
    assert of.labels is not None
    outcome = scoring.Outcome(
        examples=multilabel.decisions(logits, of.labels, 0.0),
        blocks=draws_of(of.blocks, card.seed),
        per_class={"f1_macro": multilabel.f1_per_class},
        class_names=classes,
    )
    card = replace(card, protocol={**card.protocol, "threshold": "probability above 0.5"})
    metrics = {"f1_micro": multilabel.f1_micro, "f1_macro": multilabel.f1_macro}
    return scoring.cards(card, metrics, outcome)
