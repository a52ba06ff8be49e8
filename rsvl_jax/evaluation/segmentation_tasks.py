"""Land-cover segmentation of tiles by a linear head on frozen patch tokens."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from rsvl_jax.evaluation import linear_probe, references, scoring
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation.bootstrap import Statistic
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.suite import MAJORITY, UNTRAINED, Model, Setting, start_card

Features = Mapping[str, np.ndarray]

RAW_PIXELS = "raw pixels, linear"
FREQUENT = 0.01


def segmentation_cards(
    setting: Setting, model: Model, untrained: Model | None, *, seed: int
) -> list[Card]:
    """Mean and frequency-weighted IoU over the test tiles, and pixel accuracy.

    Classes with a handful of pixels decide a mean IoU over all classes by chance; so the mean over
    the classes that hold at least FREQUENT of the scored pixels stands beside it.
    The head learns from the leading training tiles whose patch tokens were kept.
    """
    tokens = model.test["patches"].shape[1]
    card = start_card(
        setting,
        model,
        "segmentation/linear",
        "land-cover segmentation, linear on frozen patch tokens",
        head="linear a patch token, logits upsampled bilinearly to pixels, argmax",
        training=(
            f"pixel cross-entropy by L-BFGS, {linear_probe.ITERATIONS} iterations from zero, "
            f"L2 {linear_probe.L2}, standardised tokens, frozen encoder"
        ),
        train_tiles=len(model.train["patches"]),
        train_pixels_per_tile=seg.PIXELS_PER_TILE,
        classes=setting.pixel_classes,
        mean_over="classes present in the scored masks",
        frequent=f"classes with at least {FREQUENT:.0%} of the scored pixels",
        ignore_index=seg.IGNORE,
        tokens=tokens,
    )
    if (setting.test.masks == seg.IGNORE).all():
        return scoring.not_applicable(card, ["mean_iou"], "the masks of the split hold no class")
    masks = setting.train.masks[: len(model.train["patches"])]
    others = _references(setting, masks, tokens, seed) if setting.reference_features else {}
    if untrained is not None:
        others[UNTRAINED] = _by_head(setting, masks, untrained.train, untrained.test, seed)
    predicted = _by_head(setting, masks, model.train, model.test, seed)
    outcome = scoring.Outcome(
        examples=_confusion(setting, predicted),
        references={name: _confusion(setting, found) for name, found in others.items()},
        blocks=setting.blocks,
        per_class={"mean_iou": seg.per_class_iou},
        class_names=setting.pixel_classes,
    )
    return scoring.cards(card, _metrics(outcome.examples), outcome)


def _metrics(confusions: np.ndarray) -> dict[str, Statistic]:
    frequent = seg.class_shares(confusions.sum(axis=0)) >= FREQUENT
    return {
        "mean_iou": seg.mean_iou,
        "mean_iou_frequent": partial(seg.mean_iou, among=frequent),
        "frequency_weighted_iou": seg.frequency_weighted_iou,
        "pixel_accuracy": seg.pixel_accuracy,
    }


def _by_head(
    setting: Setting, masks: np.ndarray, train: Features, test: Features, seed: int
) -> np.ndarray:
    """Class of every test pixel, uint8 [n,H,W], by a head fitted to the training tokens."""
    head = seg.fit_head(train["patches"], masks, len(setting.pixel_classes), seed=seed)
    return seg.predict(head, test["patches"], setting.test.masks.shape[1:])


def _references(
    setting: Setting, masks: np.ndarray, tokens: int, seed: int
) -> dict[str, np.ndarray]:
    """Class of every test pixel by the most frequent training class, and from raw pixels."""
    known = masks[masks != seg.IGNORE]
    most = references.majority(known, 1, len(setting.pixel_classes))[0]
    raw = {
        "train": {"patches": references.raw_patches(setting.train.images[: len(masks)], tokens)},
        "test": {"patches": references.raw_patches(setting.test.images, tokens)},
    }
    return {
        MAJORITY: np.full_like(setting.test.masks, most),
        RAW_PIXELS: _by_head(setting, masks, raw["train"], raw["test"], seed),
    }


def _confusion(setting: Setting, predicted: np.ndarray) -> np.ndarray:
    return seg.confusion(predicted, setting.test.masks, len(setting.pixel_classes))
