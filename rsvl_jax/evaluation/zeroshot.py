"""Zero-shot classification: class vectors from prompts, nearest class by cosine."""

from collections.abc import Callable, Sequence

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.vectors import normalize

Class = str | Sequence[str]
EncodeTexts = Callable[[list[str]], np.ndarray]

CLASS_SLOT = "{c}"


def names_of(entry: Class) -> list[str]:
    """The names (synonyms) of a class, which may be given as one string or several."""
    return [entry] if isinstance(entry, str) else list(entry)


def prompts(classes: Sequence[Class], templates: Sequence[str]) -> list[list[str]]:
    """Every template filled with every name of each class: one list of prompts a class.

    Raises UserError for a template without "{c}", for no templates and for a class without name.
    """
    if not templates:
        raise UserError(
            "no prompt templates: give at least one, such as 'a satellite photo of {c}.'"
        )
    for template in templates:
        if CLASS_SLOT not in template:
            raise UserError(f"prompt template {template!r} has no {CLASS_SLOT} for the class name")
    filled = [[t.replace(CLASS_SLOT, n) for n in names_of(c) for t in templates] for c in classes]
    for entry, texts in zip(classes, filled, strict=True):
        if not texts:
            raise UserError(f"class {entry!r} has no name")
    return filled


def class_vectors(
    encode: EncodeTexts,
    classes: Sequence[Class],
    templates: Sequence[str],
    *,
    normalize_before_mean: bool = True,
) -> np.ndarray:
    """One unit vector a class, float32 [C,E]: mean over its prompts, normalised.

    encode maps texts to embeddings [n,E]. Each prompt's embedding is normalised before the mean
    (open_clip, SkyScript); GeoRSCLIP averages them as they are: `normalize_before_mean=False`.
    """
    per_class = prompts(classes, templates)
    embeddings = np.asarray(encode([text for texts in per_class for text in texts]), np.float32)
    if normalize_before_mean:
        embeddings = normalize(embeddings)
    ends = np.cumsum([len(texts) for texts in per_class])
    parts = np.split(embeddings, ends[:-1])
    return normalize(np.stack([part.mean(axis=0) for part in parts]))


def predict(images: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Class with the highest cosine, int32 [n]: images [n,E], vectors [C,E]; ties to the lowest."""
    return scores(images, vectors).argmax(axis=1).astype(np.int32)


def scores(images: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Cosine of every image with every class, float32 [n,C]."""
    return normalize(images) @ vectors.T
