"""Segmentation by the names of the classes alone, as GRAFT does: nothing is fitted."""

import numpy as np

from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import pixels, reading, segmentation
from rsvl_jax.evaluation import prompts, scoring
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.linear_probe import LinearHead


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: test (split), prompts (a set or a file)."""
    test = reading.split(spec, "test", "test")
    side = subject.encoders.image_size
    assert side is not None
    asked = prompts.load(
        test.pixel_classes, prompts=spec.options.get("prompts", "graft"), names="words"
    )
    card = subject.card(
        test,
        "segmentation/zeroshot",
        "zero-shot segmentation",
        pixels.FIT,
        head="cosine of patch and class vector, bilinear at pixels, argmax; nothing is fitted",
        classes=list(asked.names),
        prompts=[list(texts) for texts in asked.texts],
        class_vector=asked.describe(),
        scored_at=f"{side} x {side} pixels: {pixels.HOW}",
        mean_over="classes present in the scored masks",
    )
    if subject.encoders.texts is None:
        return scoring.not_applicable(card, ["mean_iou"], "the model has no text encoder")
    head = _head(prompts.vectors(asked, subject.texts))

    def predict(rows: range) -> np.ndarray:
        found = pixels.tokens(subject, test, rows, "text_patches")
        unit = found / np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-12)
        return seg.predict(head, unit, (side, side))

    return segmentation.cards(card, test, side, predict)


def _head(vectors: np.ndarray) -> LinearHead:
    """Cosines of unit tokens with unit class vectors [C,E], as a linear layer."""
    dims, classes = vectors.shape[1], len(vectors)
    return LinearHead(
        mean=np.zeros(dims, np.float32),
        scale=np.ones(dims, np.float32),
        weight=np.asarray(vectors.T, np.float32),
        bias=np.zeros(classes, np.float32),
    )
