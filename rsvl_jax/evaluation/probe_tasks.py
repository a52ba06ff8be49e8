"""Land cover of tiles by logistic regression on frozen features."""

from collections.abc import Sequence

import numpy as np

from rsvl_jax.evaluation import linear_probe
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.land_cover_tasks import POOLINGS, accuracy_cards
from rsvl_jax.evaluation.suite import UNTRAINED, Model, Setting, start_card

GRID = tuple(np.logspace(-4, 3, 8).tolist())
ASIDE = 5  # every fifth training block


def probe_cards(
    setting: Setting, model: Model, untrained: Model | None, poolings: Sequence[str]
) -> list[Card]:
    """A head for each pooling, its strength chosen on training blocks that stood aside."""
    found = []
    for pooling in poolings:
        predicted, c = _predicted(setting, model, pooling)
        others = {}
        if untrained is not None:
            others[UNTRAINED] = _predicted(setting, untrained, pooling)[0]
        card = start_card(
            setting,
            model,
            f"linear/{pooling}",
            f"linear probe {setting.topic}, {pooling} features",
            probe="multinomial logistic regression, L-BFGS, standardised features",
            c=c,
            grid=f"{len(GRID)} values of C from {min(GRID):g} to {max(GRID):g}",
            chosen_on=f"every {ASIDE}th training block, learned from afterwards",
            pooling=POOLINGS[pooling],
            classes=setting.class_names,
            train_tiles=int(np.sum(setting.train.labels >= 0)),
        )
        found += accuracy_cards(setting, card, predicted, others)
    return found


def _predicted(setting: Setting, model: Model, pooling: str) -> tuple[np.ndarray, float]:
    """Class of every test tile, and the chosen C."""
    train = setting.train
    known = train.labels >= 0
    blocks = np.unique(train.blocks[known])
    aside = np.isin(train.blocks, blocks[::ASIDE])
    halves = [known & ~aside, known & aside]
    if len(blocks) < 2:  # nothing can stand aside
        halves = [known, known]
    features = model.train[pooling]
    probe = linear_probe.sweep(
        (features[halves[0]], train.labels[halves[0]]),
        (features[halves[1]], train.labels[halves[1]]),
        len(setting.classes),
        grid=GRID,
        iterations=linear_probe.ITERATIONS,
    )
    return probe.head.logits(model.test[pooling]).argmax(axis=1), probe.c
