"""Cards of zero-shot classification and retrieval of labelled images.

Accuracy, balanced accuracy (mean recall of the classes that occur), and mAP@20 and mAP@100 with a
query a class over all images as gallery. Intervals of the accuracies resample images: nothing is
known of where they lie.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from graft_jax.zeroshot.folder import Folder
from rsvl_jax.evaluation import average_precision, classification, scoring, zeroshot
from rsvl_jax.evaluation.bootstrap import percentile
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.land_cover_tasks import ACCURACIES
from rsvl_jax.evaluation.prompts import Prompts

KS = (20, 100)
DRAWS = 1000


def score(images: np.ndarray, vectors: np.ndarray, labels: np.ndarray, card: Card) -> list[Card]:
    """Cards of unit image embeddings [n, E] and class vectors [C, E]; labels int [n].

    card: template with data set, protocol and provenance; its seed is that of the resampling.
    """
    cosines = images @ vectors.T
    tallies = classification.tallies(zeroshot.predict(images, vectors), labels, len(vectors))
    outcome = scoring.Outcome(
        examples=tallies,
        chance=dict.fromkeys(ACCURACIES, 1 / len(vectors)),
        per_class={"balanced_accuracy": classification.per_class_recall},
        class_names=tuple(card.protocol["classes"]),
    )
    found = scoring.cards(
        replace(card, task="zeroshot", title="zero-shot classification"), ACCURACIES, outcome
    )
    totals = resampled(tallies, card.seed)
    found = [
        replace(
            each,
            interval=percentile(100 * ACCURACIES[each.metric](totals)),
            interval_method=f"95% percentile bootstrap over images, {DRAWS} draws",
        )
        for each in found
    ]
    return found + _retrieval(cosines, labels, card)


def resampled(examples: np.ndarray, seed: int) -> np.ndarray:
    """Sums of examples [n, M] drawn with replacement, [DRAWS, M].

    Equal examples are drawn together: the counts of each kind are multinomial.
    """
    kinds, counts = np.unique(examples, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(examples), counts / counts.sum(), DRAWS)
    return drawn @ kinds


def _retrieval(cosines: np.ndarray, labels: np.ndarray, card: Card) -> list[Card]:
    relevant = np.arange(cosines.shape[1])[:, None] == labels
    values = average_precision.mean_average_precision(cosines.T, relevant, KS)
    title = "images by class prompt"
    return [
        replace(
            card,
            task="retrieval/class_prompt",
            title=title,
            metric=f"map@{k}",
            value=100 * float(value),
            chance=100 * average_precision.chance(relevant, k),
            n=len(labels),
        )
        for k, value in zip(KS, values, strict=True)
    ]


def protocol(folder: Folder, prompts: Prompts, sizes: Sequence[int]) -> dict[str, object]:
    """What the cards say of how images and texts were made; sizes: smallest and largest side."""
    how = {
        "resize": f"resized to {folder.size} x {folder.size} pixels, aspect not kept",
        "pad": f"padded with black to {folder.size} x {folder.size} pixels, larger ones cropped",
        "pad_reflect": f"padded by reflection to {folder.size} x {folder.size} pixels, larger "
        "ones cropped",
    }
    return {
        "image": how[folder.fit],
        "fit": folder.fit,
        "original_sides": f"{sizes[0]} to {sizes[1]} pixels",
        "classes": list(prompts.names),
        "prompt_set": prompts.source,
        "prompts": [list(texts) for texts in prompts.texts],
        "class_vector": "each prompt normalised, mean, normalised",
    }
