"""Segmentation by a linear head on frozen patch tokens."""

import numpy as np

from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import pixels, reading
from rsvl_jax.evaluation import linear_probe, scoring
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation.bootstrap import Images, Statistic
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation_sets.collection import Collection

TILES = 2000  # of the training split, at most
METRICS: dict[str, Statistic] = {
    "mean_iou": seg.mean_iou,
    "frequency_weighted_iou": seg.frequency_weighted_iou,
    "pixel_accuracy": seg.pixel_accuracy,
}
_PART = 256


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: train, test (splits), tiles (that the head learns from, at most)."""
    train, test = (reading.split(spec, name, name) for name in ("train", "test"))
    side = subject.encoders.image_size
    assert side is not None
    most = range(min(len(train), int(spec.options.get("tiles", TILES))))
    head = seg.fit_head(
        pixels.tokens(subject, train, most, "patches"),
        pixels.masks(train, side, most),
        len(test.pixel_classes),
        seed=subject.seed,
    )

    def predict(rows: range) -> np.ndarray:
        return seg.predict(head, pixels.tokens(subject, test, rows, "patches"), (side, side))

    card = subject.card(
        test,
        "segmentation/linear",
        "segmentation, linear on frozen patch tokens",
        pixels.FIT,
        head="linear a patch token, logits upsampled bilinearly, argmax",
        training=f"pixel cross-entropy by L-BFGS, {linear_probe.ITERATIONS} iterations from zero",
        train_images=len(most),
        train_pixels_per_image=seg.PIXELS_PER_TILE,
        classes=list(test.pixel_classes),
        scored_at=f"{side} x {side} pixels: {pixels.HOW}",
        mean_over="classes present in the scored masks",
    )
    return cards(card, test, side, predict)


def cards(card: Card, test: Collection, side: int, predict) -> list[Card]:
    """card: template. predict: rows -> class of every pixel, uint8 [n, side, side]."""
    confusions = [
        seg.confusion(predict(rows), pixels.masks(test, side, rows), len(test.pixel_classes))
        for rows in pixels.parts(len(test), _PART)
    ]
    examples = np.concatenate(confusions).astype(np.float64)
    if not examples.any():
        return scoring.not_applicable(card, METRICS, "the masks hold no class")
    outcome = scoring.Outcome(
        examples=examples,
        blocks=Images(card.seed),
        per_class={"mean_iou": seg.per_class_iou},
        class_names=test.pixel_classes,
    )
    return scoring.cards(card, METRICS, outcome)
