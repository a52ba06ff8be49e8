"""Cards of class scores: accuracies where an image has one label, average precision for several."""

from dataclasses import replace
from functools import partial

import numpy as np

from rsvl_jax.evaluation import classification, multilabel, scoring
from rsvl_jax.evaluation.bootstrap import Images, percentile
from rsvl_jax.evaluation.card import Card

_DRAWS = 200  # torchgeo-bench's; average precision is no function of sums, each draw sorts
_TOP = 5


def cards(
    card: Card, scores: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> list[Card]:
    """card: template. scores float [n,C], higher is better; labels int [n] or bool [n,C]."""
    if labels.ndim == 2:
        return _several(card, scores, labels, classes)
    tallies = classification.tallies(scores.argmax(axis=1), labels, len(classes))
    metrics = {
        "accuracy": classification.accuracy,
        "balanced_accuracy": classification.balanced_accuracy,
    }
    outcome = scoring.Outcome(
        examples=tallies,
        chance=dict.fromkeys(metrics, 1 / len(classes)),
        blocks=Images(card.seed),
        per_class={"balanced_accuracy": classification.per_class_recall},
        class_names=classes,
    )
    found = scoring.cards(card, metrics, outcome)
    return found + _top(card, scores, labels) if len(classes) > _TOP else found


def _top(card: Card, scores: np.ndarray, labels: np.ndarray) -> list[Card]:
    hits = classification.topk_hits(scores, labels, _TOP).astype(np.float64)
    outcome = scoring.Outcome(
        examples=np.stack([hits, np.ones_like(hits)], axis=1),
        chance={f"accuracy@{_TOP}": _TOP / scores.shape[1]},
        blocks=Images(card.seed),
    )
    return scoring.cards(card, {f"accuracy@{_TOP}": lambda s: s[..., 0] / s[..., 1]}, outcome)


def _several(
    card: Card, scores: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> list[Card]:
    rng = np.random.default_rng(card.seed)
    draws = rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), _DRAWS)
    each = 100 * multilabel.per_class(scores, labels)
    found = []
    for name, metric in (("map_macro", multilabel.macro), ("map_micro", multilabel.micro)):
        of = partial(metric, scores, labels)
        found.append(
            replace(
                card,
                metric=name,
                value=100 * float(of()),
                interval=percentile(np.array([100 * float(of(draw)) for draw in draws])),
                interval_method=f"95% percentile bootstrap over images, {_DRAWS} draws",
                chance=100 * float(labels.mean()),
                per_class={n: v for n, v in zip(classes, each.tolist(), strict=True) if v == v}
                if name == "map_macro"
                else {},
            )
        )
    return found


def decided(
    card: Card, logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> list[Card]:
    """F1 of the labels whose logit is above 0, a probability of a half. labels bool [n,C]."""
    outcome = scoring.Outcome(
        examples=multilabel.decisions(logits, labels, 0.0),
        blocks=Images(card.seed),
        per_class={"f1_macro": multilabel.f1_per_class},
        class_names=classes,
    )
    card = replace(card, protocol={**card.protocol, "threshold": "probability above 0.5"})
    metrics = {"f1_micro": multilabel.f1_micro, "f1_macro": multilabel.f1_macro}
    return scoring.cards(card, metrics, outcome)
