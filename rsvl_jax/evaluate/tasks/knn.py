"""kNN on frozen features."""

from rsvl_jax.evaluate.subject import POOLINGS, Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import accuracies, reading
from rsvl_jax.evaluation import knn
from rsvl_jax.evaluation.card import Card


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: train, test (splits), k, metric ("l2", "cosine"), temperature, pooling."""
    train, test = (reading.split(spec, name, name) for name in ("train", "test"))
    learned, seen = (subject.features(of, reading.fit(spec)) for of in (train, test))
    temperature = spec.options.get("temperature")
    protocol = knn.Knn(spec.options.get("k", 5), spec.options.get("metric", "l2"), temperature)
    found = []
    for pooling in reading.poolings(subject, spec, seen, ("mean", "cls")):
        scores = knn.votes(
            protocol,
            train=learned[pooling],
            train_labels=reading.labelled(train, spec),
            test=seen[pooling],
            num_classes=len(test.classes),
            mesh=subject.mesh,
        )
        name = f"knn_{protocol.metric}_k{protocol.k}"
        card = subject.card(
            test,
            f"{name}/{pooling}",
            f"kNN, k={protocol.k} {protocol.metric}, {pooling}",
            reading.fit(spec),
            **protocol.describe(),
            pooling=POOLINGS[pooling],
            classes=list(test.classes),
            train=[train.split, train.fingerprint(), len(train)],
        )
        found += accuracies.cards(card, scores, reading.labelled(test, spec), test.classes)
    return found
