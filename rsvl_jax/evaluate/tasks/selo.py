"""Semantic localisation: texts in large scenes."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluation import scoring
from rsvl_jax.evaluation import semantic_localisation as selo
from rsvl_jax.evaluation.bootstrap import Images, percentile
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.features import extract
from rsvl_jax.evaluation.vectors import normalize
from rsvl_jax.evaluation_sets import air_slt, pictures

_METRICS = ("rsu", "rda", "ras", "rmi")


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: scales (pixels of the windows)."""
    sought = air_slt.read(spec.data)
    scales = tuple(spec.options.get("scales", selo.SCALES))
    named = hashlib.sha256("\n".join(s.image + s.text for s in sought).encode()).hexdigest()[:12]
    card = Card(
        task=f"{spec.set}/selo",
        metric="",
        title=f"{spec.set}: semantic localisation",
        n=len(sought),
        unit="fraction",
        dataset=spec.set,
        split="all",
        split_fingerprint=named,
        protocol={
            **subject.encoders.protocol,
            "windows": f"sides {list(scales)}, and the same half a side on",
            "map": "mean over windows, stretched to [0, 1], median filter of 251 pixels",
            "indicators": "Yuan et al. 2022, released code; ras is better lower",
        },
        seed=subject.seed,
        provenance=subject.provenance,
    )
    if subject.encoders.texts is None:
        return scoring.not_applicable(card, _METRICS, "the model has no text encoder")
    each = _indicators(subject, sought, scales)
    found = np.array([[getattr(one, metric) for metric in _METRICS] for one in each])
    return [_card(card, metric, found[:, place]) for place, metric in enumerate(_METRICS)]


def _indicators(
    subject: Subject, sought: list[air_slt.Sought], scales: tuple[int, ...]
) -> Iterator[selo.Indicators]:
    """In the order of the texts; each scene is read and cut once."""
    of_image: dict[str, list[int]] = {}
    for number, entry in enumerate(sought):
        of_image.setdefault(entry.image, []).append(number)
    found: dict[int, selo.Indicators] = {}
    for path, numbers in of_image.items():
        texts = normalize(subject.texts([sought[number].text for number in numbers]))
        maps = selo.localise(pictures.read(path), lambda cut: _embed(subject, cut), texts, scales)
        for number, prob in zip(numbers, maps, strict=True):
            found[number] = selo.indicators(prob, sought[number].regions)
    yield from (found[number] for number in range(len(sought)))


def _embed(subject: Subject, cut: Iterator[np.ndarray]) -> np.ndarray:
    images = np.stack([subject.prepare(window) for window in cut])

    def encode(pixels):
        return {"text_space": subject.encoders.images(pixels)["text_space"]}

    found = extract(encode, images, batch_size=subject.batch_size, mesh=subject.mesh)
    return normalize(found["text_space"])


def _card(card: Card, metric: str, values: np.ndarray) -> Card:
    draws = Images(card.seed).replicates(values[:, None], lambda sums: sums[..., 0] / len(values))
    return replace(
        card,
        metric=metric,
        value=float(values.mean()),
        interval=percentile(draws),
        interval_method=Images(card.seed).describe().replace("images", "texts"),
    )
