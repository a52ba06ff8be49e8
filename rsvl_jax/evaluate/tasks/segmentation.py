"""Segmentation by a linear or a convolutional head on frozen patch tokens."""

from collections.abc import Callable

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import pixels, reading
from rsvl_jax.evaluation import linear_probe, scoring
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation import segmentation_conv as conv
from rsvl_jax.evaluation.bootstrap import Statistic, draws_of
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.segmentation_conv import ConvTraining
from rsvl_jax.evaluation_sets.collection import Collection

Predict = Callable[[np.ndarray, tuple[int, int]], np.ndarray]

HEADS = {"linear": "linear", "conv": "convolutions"}
CONV_OPTIONS = tuple(ConvTraining.__dataclass_fields__)
_LINEAR = {
    "head": "linear a patch token, logits upsampled bilinearly, argmax",
    "training": f"pixel cross-entropy by L-BFGS, {linear_probe.ITERATIONS} iterations from zero",
    "train_pixels_per_image": seg.PIXELS_PER_TILE,
}
TILES = 2000  # of the training split, at most
METRICS: dict[str, Statistic] = {
    "mean_iou": seg.mean_iou,
    "frequency_weighted_iou": seg.frequency_weighted_iou,
    "pixel_accuracy": seg.pixel_accuracy,
}
_PART = 256


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: train, test (splits), tiles (that the head learns from, at most), head ("linear" or
    "conv"), and of the latter those of `segmentation_conv.ConvTraining`."""
    head, training = _head(spec)
    train, test = (reading.split(spec, name, name) for name in ("train", "test"))
    side = subject.encoders.image_size
    assert side is not None
    most = range(min(len(train), int(spec.options.get("tiles", TILES))))
    patches = pixels.tokens(subject, train, most, "patches")
    masks, classes = pixels.masks(train, side, most), len(test.pixel_classes)
    if training is None:
        predicted = _linear(patches, masks, classes, subject)
    else:
        predicted = _conv(patches, masks, classes, subject, training)

    def predict(rows: range) -> np.ndarray:
        return predicted(pixels.tokens(subject, test, rows, "patches"), (side, side))

    card = subject.card(
        test,
        f"segmentation/{head}",
        f"segmentation, {HEADS[head]} on frozen patch tokens",
        pixels.FIT,
        **(_LINEAR if training is None else training.describe()),
        train_images=len(most),
        classes=list(test.pixel_classes),
        scored_at=f"{side} x {side} pixels: {pixels.HOW}",
        mean_over="classes present in the scored masks",
    )
    return cards(card, test, side, predict)


def _head(spec: Spec) -> tuple[str, ConvTraining | None]:
    """Name of the head, and how it is trained; None for the linear one, which has no choices."""
    head = spec.options.get("head", "linear")
    if head not in HEADS:
        raise UserError(f"task {spec.name!r}: head {head!r}: use {' or '.join(HEADS)}")
    own = {name: spec.options[name] for name in CONV_OPTIONS if name in spec.options}
    if head == "conv":
        return head, ConvTraining(**own)
    if own:
        raise UserError(f'task {spec.name!r}: {", ".join(own)} are for head = "conv"')
    return head, None


def _linear(patches: np.ndarray, masks: np.ndarray, classes: int, subject: Subject) -> Predict:
    head = seg.fit_head(patches, masks, classes, seed=subject.seed)
    return lambda found, size: seg.predict(head, found, size)


def _conv(
    patches: np.ndarray, masks: np.ndarray, classes: int, subject: Subject, how: ConvTraining
) -> Predict:
    mesh = subject.mesh
    head = conv.fit_head(patches, masks, classes, seed=subject.seed, mesh=mesh, how=how)
    return lambda found, size: conv.predict(head, found, size, mesh)


def cards(card: Card, test: Collection, side: int, predict) -> list[Card]:
    """card: template. predict: rows -> class of every pixel, uint8 [n, side, side]."""
    confusions = [
        seg.confusion(predict(rows), pixels.masks(test, side, rows), len(test.pixel_classes))
        for rows in pixels.parts(len(test), _PART)
    ]
    return counted(card, test, np.concatenate(confusions))


def counted(card: Card, test: Collection, confusions: np.ndarray) -> list[Card]:
    """card: template. confusions: of each image, int64 [n, C*C], see `segmentation.confusion`."""
    examples = confusions.astype(np.float64)
    if not examples.any():
        return scoring.not_applicable(card, METRICS, "the masks hold no class")
    outcome = scoring.Outcome(
        examples=examples,
        blocks=draws_of(test.blocks, card.seed),
        per_class={"mean_iou": seg.per_class_iou},
        class_names=test.pixel_classes,
    )
    return scoring.cards(card, METRICS, outcome)
