"""Images and their captions, in both directions."""

from dataclasses import replace

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import reading
from rsvl_jax.evaluation import caption_retrieval as captions
from rsvl_jax.evaluation import scoring
from rsvl_jax.evaluation.bootstrap import Images, Statistic
from rsvl_jax.evaluation.card import Card

RECALLS: dict[str, Statistic] = {
    **{f"recall@{k}": captions.recall_at(place) for place, k in enumerate(captions.KS)},
    "mean_recall": captions.mean_recall,
}


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: test (split), merge (equal captions are one), prefix (of every caption)."""
    test = reading.split(spec, "test", "test")
    if not test.captions:
        raise UserError(f"task {spec.name!r} needs captions: {test.name} {test.split} has none")
    merge = bool(spec.options.get("merge", False))
    items = captions.Captions.of(test.captions, merge=merge)
    card = subject.card(
        test,
        "retrieval",
        "retrieval",
        reading.fit(spec),
        captions="equal ones are one item" if merge else "each is an item of its own",
        texts=len(items.texts),
        similarity="cosine",
        ties="count against the model",
        mean_recall="mean of recall@1, 5 and 10; of both directions: of the six",
    )
    seen = subject.features(test, reading.fit(spec))
    if subject.encoders.texts is None or "text_space" not in seen:
        return scoring.not_applicable(card, RECALLS, "the model has no text encoder")
    texts, images = subject.texts(items.texts), seen["text_space"]
    forth = captions.ranks(images, texts, items.texts_of, subject.mesh)
    back = captions.ranks(texts, images, items.images_of, subject.mesh)
    found = [
        *_direction(card, "image_to_text", forth, items.texts_of, len(items.texts)),
        *_direction(card, "text_to_image", back, items.images_of, len(images)),
    ]
    means = [c.value for c in found if c.metric == "mean_recall" and c.value is not None]
    return [*found, replace(card, metric="mean_recall", value=float(np.mean(means)))]


def _direction(
    card: Card, name: str, ranks: np.ndarray, right: np.ndarray, items: int
) -> list[Card]:
    own = replace(card, task=f"{card.task}/{name}", title=f"{card.title}, {name.replace('_', ' ')}")
    outcome = scoring.Outcome(
        examples=captions.tallies(ranks),
        chance={f"recall@{k}": captions.chance(right, items, k) for k in captions.KS},
        blocks=Images(card.seed),
    )
    places = {"median_rank": float(np.median(ranks)), "mean_rank": float(np.mean(ranks))}
    return [
        *scoring.cards(own, RECALLS, outcome),
        *(
            replace(own, metric=metric, unit="rank", value=value, n=len(ranks))
            for metric, value in places.items()
        ),
    ]
