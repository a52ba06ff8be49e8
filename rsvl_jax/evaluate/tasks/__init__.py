"""Task kinds: each takes a model and a task's description, and gives cards.

A new kind is a module with a function and a line in KINDS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import (
    class_retrieval,
    density,
    embedded,
    few_shot,
    geolocation,
    knn,
    linear_probe,
    open_vocabulary,
    retrieval,
    segmentation,
    selo,
    upernet,
    vqa,
    zeroshot,
)
from rsvl_jax.evaluate.tasks.reading import OPTIONS
from rsvl_jax.evaluation.card import Card


@dataclass(frozen=True)
class Kind:
    """A kind of task: the function that scores it, the names of its options, and whether it makes
    its data where they are not there."""

    score: Callable[[Subject, Spec], list[Card]]
    options: frozenset[str]
    builds: bool = False


def _kind(score: Callable[[Subject, Spec], list[Card]], *options: str) -> Kind:
    return Kind(score, frozenset(options) | OPTIONS)


KINDS: Mapping[str, Kind] = {
    "earth": Kind(embedded.score, frozenset({"split"}), builds=True),
    "knn": _kind(
        knn.score, "train", "test", "k", "metric", "temperature", "pooling", "resolutions"
    ),
    "linear_probe": _kind(linear_probe.score, "train", "val", "test", "pooling", "grid"),
    "few_shot": _kind(few_shot.score, "train", "val", "test", "pooling", "shots", "seeds"),
    "zeroshot": _kind(zeroshot.score, "test", "prompts", "names"),
    "retrieval": _kind(retrieval.score, "test", "merge", "prefix"),
    "class_retrieval": _kind(class_retrieval.score, "test", "prompts", "names"),
    "geolocation": _kind(geolocation.score, "test", "gallery"),
    "segmentation": _kind(
        segmentation.score, "train", "test", "tiles", "head", *segmentation.CONV_OPTIONS
    ),
    "upernet": _kind(upernet.score, "train", "test", *upernet.OPTIONS),
    "open_vocabulary": _kind(open_vocabulary.score, "test", "prompts"),
    "density": Kind(
        density.score,
        frozenset({"query", "scene", "truth", "band", "cell", "gsd", "prompts"}),
    ),
    "selo": Kind(selo.score, frozenset({"scales"})),
    "vqa": _kind(vqa.score, "test", "bucket_counts", "gsd", "least", "prompts"),
}
