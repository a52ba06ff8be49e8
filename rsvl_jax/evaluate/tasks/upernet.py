"""Segmentation by UPerNet, fine-tuned with the encoder or on top of it."""

from dataclasses import asdict

import numpy as np

from rsvl_jax.evaluate.subject import MODEL, Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import reading, segmentation
from rsvl_jax.evaluation import scoring
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation import segmentation_upernet as tuning
from rsvl_jax.evaluation import segmentation_windows as windows
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.segmentation_crops import pair
from rsvl_jax.evaluation.segmentation_upernet import Tuned, UpernetTraining
from rsvl_jax.evaluation_sets.collection import Collection

OPTIONS = tuple(UpernetTraining.__dataclass_fields__)


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: train, test (splits), and those of `segmentation_upernet.UpernetTraining`."""
    how = UpernetTraining(**{name: spec.options[name] for name in OPTIONS if name in spec.options})
    train, test = (reading.split(spec, name, name) for name in ("train", "test"))
    if subject.backbone is None:
        card = _card(subject, train, test, how)
        return scoring.not_applicable(
            card, segmentation.METRICS, "no ViT to train further: score a checkpoint or weights"
        )
    backbone = subject.backbone()
    card = _card(subject, train, test, how.settled(backbone.cfg))
    tuned = tuning.fine_tune(backbone, train, how, seed=subject.seed, mesh=subject.mesh)
    return segmentation.counted(card, test, _confusions(tuned, test, subject))


def _card(subject: Subject, train: Collection, test: Collection, how: UpernetTraining) -> Card:
    kind = "upernet_frozen" if how.frozen else "upernet"
    what = "on the frozen encoder" if how.frozen else "fine-tuned with the encoder"
    return subject.card(
        test,
        f"segmentation/{kind}",
        f"segmentation, UPerNet {what}",
        MODEL,
        head="UPerNet on four depths of the ViT at 4, 2, 1, 1/2 times the patches; group norm",
        training="pixel cross-entropy by AdamW, random crops and flips; the last step is scored",
        **asdict(how),
        image=f"as it is: crops of {how.window} pixels in training, {how.prediction} in prediction",
        train_split=train.split,
        train_images=len(train),
        train_fingerprint=train.fingerprint(),
        classes=list(test.pixel_classes),
        scored_at="the image's own pixels",
        mean_over="classes present in the scored masks",
    )


def _confusions(tuned: Tuned, test: Collection, subject: Subject) -> np.ndarray:
    """Of each image, int64 [n, C*C], at its own size."""
    found = []
    for rows in windows.parts(len(test)):
        images, masks = zip(*(pair(test, row) for row in rows), strict=True)
        guessed = windows.classes(
            tuned.logits, images, tuned.windows, batch=subject.batch_size, mesh=subject.mesh
        )
        found += [
            seg.confusion(guess[None], mask[None], len(test.pixel_classes))
            for guess, mask in zip(guessed, masks, strict=True)
        ]
    return np.concatenate(found)
