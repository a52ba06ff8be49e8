"""Logistic regression on frozen features, its strength chosen on the validation split.

The best strength has the highest accuracy or, with several labels an image, mean average precision.
"""

from rsvl_jax.evaluate.subject import POOLINGS, Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import accuracies, reading
from rsvl_jax.evaluation import linear_probe
from rsvl_jax.evaluation.card import Card

_ONE = "multinomial logistic regression, L-BFGS, standardised features"
_SEVERAL = "logistic regression of each class against the rest, L-BFGS, standardised features"


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: train, val, test (splits), pooling, grid (of scikit-learn's C)."""
    splits = [reading.split(spec, name, name) for name in ("train", "val", "test")]
    labels = [reading.labelled(of, spec) for of in splits]
    seen = [subject.features(of, reading.fit(spec)) for of in splits]
    grid = spec.options.get("grid", linear_probe.GRID)
    train, val, test = splits
    found = []
    for pooling in reading.poolings(subject, spec, seen[2], ("mean", "cls")):
        probe = linear_probe.sweep(
            (seen[0][pooling], labels[0]),
            (seen[1][pooling], labels[1]),
            len(test.classes),
            grid=grid,
        )
        card = subject.card(
            test,
            f"linear/{pooling}",
            f"linear probe, {pooling}",
            reading.fit(spec),
            probe=_SEVERAL if train.multilabel else _ONE,
            c=probe.c,
            grid=f"{len(grid)} values of C from {min(grid):g} to {max(grid):g}, best on val",
            fitted_to="train and val",
            pooling=POOLINGS[pooling],
            classes=list(test.classes),
            train=[train.fingerprint(), len(train)],
            val=[val.fingerprint(), len(val)],
        )
        scores = probe.head.logits(seen[2][pooling])
        found += accuracies.cards(card, scores, test, test.classes)
        if train.multilabel:
            found += accuracies.decided(card, scores, test, test.classes)
    return found
