"""Zero-shot segmentation of held-out coarse tiles: texts against the pixels' land cover.

Protocol, as the cards repeat it: cosine of each patch with each class vector, bilinear at pixels,
argmax; IoU over all pixels of the scored tiles whose cover is one of the classes. Several students
are one score, the mean over their seeds. Intervals resample geographic blocks, all predictors on
the same draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from jax.sharding import Mesh

from graft_jax.towers import TextImageModel
from rsvl_jax.evaluation import references, scoring, zeroshot
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation.bootstrap import Blocks, Statistic
from rsvl_jax.evaluation.card import Card, Provenance
from rsvl_jax.evaluation.features import extract
from rsvl_jax.evaluation.suite import MAJORITY
from rsvl_jax.evaluation.tiles import Tiles

WHOLE = "student, one class a tile by its image embedding"


class Contestant(Protocol):
    """A model and what is known of its weights."""

    @property
    def model(self) -> TextImageModel: ...

    @property
    def provenance(self) -> Provenance: ...


class Bench(Protocol):
    """Held-out tiles and what is asked of them, such as `graft_jax.evaluate.Bench`.

    The classes' vectors are float32 [C, E], in the order of the classes of the masks, which may
    have more: pixels of those are left out.
    """

    @property
    def test(self) -> Tiles: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def vectors(self) -> np.ndarray: ...

    @property
    def card(self) -> Card: ...

    @property
    def blocks(self) -> Blocks | None: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def mesh(self) -> Mesh: ...


def score(
    bench: Bench,
    students: Sequence[Contestant],
    others: Mapping[str, TextImageModel],
    *,
    train: Tiles,
) -> list[Card]:
    """Mean IoU and pixel accuracy of the students, beside other models by name.

    students: one a seed. train: whose masks say which class is the most frequent.
    """
    masks = known(bench.test.masks, len(bench.classes))
    count = len(bench.classes)

    def confusions(predicted: np.ndarray) -> np.ndarray:
        return seg.confusion(predicted, masks, count).astype(np.float64)

    patches, whole = [], []
    for student in students:
        found = predict(bench, student.model)
        patches.append(confusions(found[0]))
        whole.append(confusions(found[1]))
    beside = {name: confusions(predict(bench, model)[0]) for name, model in others.items()}
    seen = known(train.masks, count)
    most = references.majority(seen[seen != seg.IGNORE], 1, count)[0]
    beside[MAJORITY] = confusions(np.full_like(masks, most))
    outcome = scoring.Outcome(
        examples=np.concatenate(patches, axis=1),
        references={WHOLE: np.concatenate(whole, axis=1), **beside},
        blocks=bench.blocks,
        per_class={"mean_iou": over_seeds(seg.per_class_iou, count, axis=-2)},
        class_names=bench.classes,
    )
    metrics = {"mean_iou": seg.mean_iou, "pixel_accuracy": seg.pixel_accuracy}
    cards = scoring.cards(
        _card(bench, students), {n: over_seeds(of, count) for n, of in metrics.items()}, outcome
    )
    return [
        replace(card, protocol={**card.protocol, **_by_seed(patches, metrics[card.metric])})
        for card in cards
    ]


def known(masks: np.ndarray, classes: int) -> np.ndarray:
    """Masks with IGNORE at pixels of no class below `classes`."""
    return np.where(masks < classes, masks, seg.IGNORE).astype(np.uint8)


def predict(bench: Bench, model: TextImageModel) -> tuple[np.ndarray, np.ndarray]:
    """Class of every pixel, uint8 [n, H, W]: by patches, and by the image alone."""
    exact = np.asarray(bench.vectors, np.float32).T

    def encode(pixels):
        found = model.images(pixels)
        return {"pixels": found["pixels"] @ exact, "image": found["image"]}

    found = extract(encode, bench.test.images, batch_size=bench.batch_size, mesh=bench.mesh)
    height, width = bench.test.masks.shape[1:]
    rows, columns = seg.grid_of(found["pixels"].shape[1], (height, width))
    up, across = seg.upsampling(rows, height), seg.upsampling(columns, width)
    labels = np.empty((len(bench.test), height, width), np.uint8)
    for label, cosines in zip(labels, found["pixels"], strict=True):
        grid = cosines.reshape(rows, columns, -1)
        label[:] = np.einsum("yi,xj,ijc->yxc", up, across, grid, optimize=True).argmax(axis=-1)
    image = zeroshot.predict(found["image"], bench.vectors).astype(np.uint8)
    return labels, np.broadcast_to(image[:, None, None], labels.shape)


def over_seeds(statistic: Callable, classes: int, axis: int = -1) -> Statistic:
    """A statistic of confusions [..., C * C] as the mean over those of S seeds, [..., S * C * C].

    An IoU of summed confusions is not the mean of the seeds' IoUs, so they stay apart.
    """

    def mean(totals: np.ndarray) -> np.ndarray:
        return statistic(totals.reshape(*totals.shape[:-1], -1, classes**2)).mean(axis=axis)

    return mean


def _by_seed(confusions: Sequence[np.ndarray], statistic: Callable) -> dict[str, object]:
    """What a card of several seeds says of each, in %."""
    values = [100 * float(statistic(each.sum(axis=0))) for each in confusions]
    if len(values) == 1:
        return {}
    return {
        "by_seed": [round(value, 2) for value in values],
        "standard_deviation_over_seeds": round(float(np.std(values, ddof=1)), 2),
    }


def _card(bench: Bench, students: Sequence[Contestant]) -> Card:
    protocol = {
        **bench.card.protocol,
        "head": "cosine of patch and class vector, bilinear at pixels, argmax; nothing is fitted",
        "mean_over": "classes present in the scored masks",
        "ignored": "pixels whose cover is none of the classes",
        "tokens": (bench.test.images.shape[1] // students[0].model.patch_size) ** 2,
    }
    weights = ", ".join(each.provenance.weights for each in students)
    return replace(
        bench.card,
        task="segmentation/zeroshot",
        title="zero-shot land-cover segmentation of coarse tiles",
        protocol=protocol,
        provenance=replace(students[0].provenance, weights=weights),
    )
