"""Land-cover classification of tiles: kNN on frozen features, and zero-shot by prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from rsvl_jax.evaluation import classification, knn, references, scoring, zeroshot
from rsvl_jax.evaluation.bootstrap import Statistic
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.features import encode_texts
from rsvl_jax.evaluation.suite import MAJORITY, UNTRAINED, Model, Setting, start_card

PURE = 0.7
POOLINGS = {
    "mean": "mean of the patch tokens",
    "cls": "class token",
    "text_space": "unit embedding that is compared with texts",
}
ACCURACIES: dict[str, Statistic] = {
    "balanced_accuracy": classification.balanced_accuracy,
    "accuracy": classification.accuracy,
}


def knn_cards(
    setting: Setting,
    model: Model,
    untrained: Model | None,
    protocols: Mapping[str, knn.Knn],
    poolings: Sequence[str],
) -> list[Card]:
    """Land cover of labelled test tiles by k nearest labelled training tiles."""
    found = []
    for name, protocol in protocols.items():
        baselines = _baselines(setting, protocol) if setting.reference_features else {}
        for pooling in poolings:
            say = partial(_neighbours_of, setting, protocol, pooling)
            others = baselines if untrained is None else {**baselines, UNTRAINED: say(untrained)}
            card = _knn_card(setting, model, name, protocol, pooling)
            found += accuracy_cards(setting, card, say(model), others)
    return found


def _knn_card(setting: Setting, model: Model, name: str, protocol: knn.Knn, pooling: str) -> Card:
    return start_card(
        setting,
        model,
        f"knn/{name}/{pooling}",
        f"kNN {setting.topic}, k={protocol.k} {protocol.metric}, {pooling} features",
        **protocol.describe(),
        pooling=POOLINGS[pooling],
        classes=setting.class_names,
        train_tiles=int(np.sum(setting.train.labels >= 0)),
        tiles="labelled ones; ambiguous tiles are left out",
    )


def _neighbours_of(setting: Setting, protocol: knn.Knn, pooling: str, model: Model) -> np.ndarray:
    return _neighbours_say(setting, protocol, model.train[pooling], model.test[pooling])


def _neighbours_say(
    setting: Setting, protocol: knn.Knn, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """Predicted class of every test tile, from the labelled training tiles."""
    labelled = setting.train.labels >= 0
    return knn.classify(
        protocol,
        train=train[labelled],
        train_labels=setting.train.labels[labelled],
        test=test,
        num_classes=len(setting.classes),
    )


def _baselines(setting: Setting, protocol: knn.Knn) -> dict[str, np.ndarray]:
    """Predictions for every test tile by the majority, by colours and by place."""
    train, test = setting.train, setting.test
    labels = train.labels[train.labels >= 0]
    found = {MAJORITY: references.majority(labels, len(test), len(setting.classes))}
    for name, (ours, theirs) in (setting.reference_features or {}).items():
        found[name] = _neighbours_say(setting, protocol, ours, theirs)
    return found


def accuracy_cards(
    setting: Setting,
    card: Card,
    predicted: np.ndarray,
    others: Mapping[str, np.ndarray],
    wanted: np.ndarray | None = None,
) -> list[Card]:
    """Accuracy cards of predictions for every test tile, over the labelled tiles in `wanted`."""
    labelled = setting.test.labels >= 0
    rows = np.flatnonzero(labelled if wanted is None else labelled & wanted)
    if not rows.size:
        return scoring.not_applicable(card, ACCURACIES, "no labelled tile in the split")
    labels, classes = setting.test.labels[rows], len(setting.classes)

    def examples(predictions: np.ndarray) -> np.ndarray:
        return classification.tallies(predictions[rows], labels, classes)

    outcome = scoring.Outcome(
        examples=examples(predicted),
        references={name: examples(predictions) for name, predictions in others.items()},
        chance=dict.fromkeys(ACCURACIES, 1 / classes),
        blocks=None if setting.blocks is None else setting.blocks.take(rows),
        per_class={"balanced_accuracy": classification.per_class_recall},
        class_names=setting.class_names,
    )
    return scoring.cards(card, ACCURACIES, outcome)


def zeroshot_cards(setting: Setting, model: Model, untrained: Model | None) -> list[Card]:
    """Land cover by prompts, over all labelled test tiles and over the pure ones among them."""
    card = start_card(
        setting,
        model,
        "zeroshot",
        f"zero-shot {setting.topic} by prompts",
        classes=[zeroshot.names_of(entry) for entry in setting.classes],
        prompts=list(setting.templates),
        class_vector="each prompt normalised, mean over prompts and synonyms, normalised",
    )
    if model.encoders.texts is None or "text_space" not in model.test:
        return scoring.not_applicable(card, ACCURACIES, "the objective trains no text encoder")
    others = {}
    if setting.reference_features:
        supervised = _baselines(setting, knn.L2_5)
        others = {_supervised(name): found for name, found in supervised.items()}
    if untrained is not None:
        others[UNTRAINED] = _by_prompts(setting, untrained)
    predicted = _by_prompts(setting, model)
    card = replace(card, note=setting.note)
    found = accuracy_cards(setting, card, predicted, others)
    if np.isnan(setting.test.purity).all():
        return found
    pure = replace(
        card,
        task="zeroshot_pure",
        title=f"zero-shot land cover, tiles at least {PURE:.0%} of one IGBP class",
    )
    wanted = setting.test.purity >= PURE
    return found + accuracy_cards(setting, pure, predicted, others, wanted)


def _supervised(name: str) -> str:
    return name if name == MAJORITY else f"{name} (kNN on labels)"


def _by_prompts(setting: Setting, model: Model) -> np.ndarray:
    """Predicted class of every test tile."""
    assert model.encoders.texts is not None
    encode = partial(
        encode_texts, model.encoders.texts, batch_size=setting.batch_size, mesh=setting.mesh
    )
    vectors = zeroshot.class_vectors(encode, setting.classes, setting.templates)
    return zeroshot.predict(model.test["text_space"], vectors)
