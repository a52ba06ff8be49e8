"""Questions about images, answered by programs over the similarity of patches to names."""

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import pixels, reading
from rsvl_jax.evaluation import prompts, scoring
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation import vqa as answers
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.vqa.looking import BACKGROUND, Similarities

_PART = 256  # images whose patch tokens are in memory at a time


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: test (split), bucket_counts (as RSVQA-LR), gsd (m a pixel of the image), least
    (pixels of the smallest thing, of the image as the model sees it), prompts."""
    test = reading.split(spec, "test", "test")
    if not test.questions:
        raise UserError(f"task {spec.name!r} needs questions: {test.name} {test.split} has none")
    buckets = bool(spec.options.get("bucket_counts", False))
    card = subject.card(
        test,
        "vqa",
        "visual question answering",
        pixels.FIT,
        programs="by a grammar of RSVQA's templates, over masks of similarity to names",
        masks=f"nearer to the name than to any of {', '.join(BACKGROUND)}",
        questions=len(test.questions),
        bucket_counts=buckets,
        gsd=spec.options.get("gsd"),
        least=int(spec.options.get("least", 1)),
        prompts=spec.options.get("prompts", "graft"),
    )
    if subject.encoders.texts is None:
        return scoring.not_applicable(card, ["accuracy"], "the model has no text encoder")
    return answers.cards(card, test, _said(subject, spec, test, buckets), bucket_counts=buckets)


def _said(subject: Subject, spec: Spec, test: Collection, buckets: bool) -> list[str]:
    side = subject.encoders.image_size
    assert side is not None
    least = int(spec.options.get("least", 1))
    said = [""] * len(test.questions)
    by_image: dict[int, list[int]] = {}
    for number, question in enumerate(test.questions):
        by_image.setdefault(question.image, []).append(number)
    names = _Names(subject, spec.options.get("prompts", "graft"))
    for rows in pixels.parts(len(test), _PART):
        tokens = pixels.tokens(subject, test, rows, "text_patches")
        for row, own in zip(rows, tokens, strict=True):
            looker = _looker(own, names, side, _metres(spec, test, row, side))
            for number in by_image.get(row, ()):
                said[number] = answers.answer(
                    test.questions[number], looker, least=least, bucket_counts=buckets
                )
    return said


def _metres(spec: Spec, test: Collection, row: int, side: int) -> float | None:
    """Of a pixel of the image as the model sees it."""
    gsd = spec.options.get("gsd")
    if gsd is None:
        return None
    rows, columns = test.images[row].shape[:2]
    return float(gsd) * float(np.sqrt(rows * columns)) / side


def _looker(tokens: np.ndarray, names: "_Names", side: int, metres: float | None) -> Similarities:
    unit = tokens / np.maximum(np.linalg.norm(tokens, axis=-1, keepdims=True), 1e-12)
    grid_rows, grid_columns = seg.grid_of(len(unit), (side, side))
    up, across = seg.upsampling(grid_rows, side), seg.upsampling(grid_columns, side)

    def scores(wanted) -> np.ndarray:
        cosines = (unit @ names(wanted).T).reshape(grid_rows, grid_columns, -1)
        return np.einsum("yi,xj,ijc->cyx", up, across, cosines, optimize=True)

    return Similarities(scores, (side, side), metres)


class _Names:
    """Unit vectors of names, each computed once."""

    def __init__(self, subject: Subject, wanted: str):
        self._subject, self._prompts = subject, wanted
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, names) -> np.ndarray:
        new = [name for name in names if name not in self._known]
        if new:
            asked = prompts.load(new, prompts=self._prompts, names="raw")
            found = prompts.vectors(asked, self._subject.texts)
            self._known.update(zip(new, found, strict=True))
        return np.stack([self._known[name] for name in names])
