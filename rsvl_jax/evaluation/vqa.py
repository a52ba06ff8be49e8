"""Accuracy of answers by kind of question, as RSVQA reports it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import scoring
from rsvl_jax.evaluation.bootstrap import Blocks
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation_sets.collection import Collection, Question
from rsvl_jax.vqa import answers, grammar, interpreter
from rsvl_jax.vqa.primitives import Looker, Primitives


def answer(
    question: Question, looker: Looker, *, least: int = 1, bucket_counts: bool = False
) -> str:
    """The answer to a question, "" where its form is not understood or too many things are seen."""
    try:
        parsed = grammar.parse(question.text)
        value = interpreter.run(parsed.program, Primitives(looker, least).functions())
    except UserError:
        return ""
    return answers.written(value, parsed.kind, bucket_counts=bucket_counts)


def cards(
    card: Card, of: Collection, said: Sequence[str], *, bucket_counts: bool = False
) -> list[Card]:
    """Cards of a collection's questions, see `cards_of`; intervals resample images, since the
    questions about one image stand or fall together."""
    rows = np.array([question.image for question in of.questions])
    blocks = Blocks.draw(rows, seed=card.seed, unit="images")
    return _cards(card, of.questions, said, blocks, bucket_counts)


def cards_of(
    card: Card, asked: Sequence[Question], said: Sequence[str], *, blocks: Blocks | None
) -> list[Card]:
    """Overall accuracy, the mean over kinds ("average"), and the accuracy of each kind, in %.

    card: template. said: an answer a question, "" for none. blocks: of the images.
    """
    rows = np.array([question.image for question in asked])
    return _cards(card, asked, said, None if blocks is None else blocks.take(rows), False)


def _cards(
    card: Card,
    asked: Sequence[Question],
    said: Sequence[str],
    blocks: Blocks | None,
    bucket_counts: bool,
) -> list[Card]:
    truth = [answers.normal(q.answer, bucket_counts=bucket_counts) for q in asked]
    kinds = sorted({question.kind for question in asked})
    right = np.array([ours == theirs for ours, theirs in zip(said, truth, strict=True)], np.float64)
    own = np.array([[q.kind == kind for kind in kinds] for q in asked], np.float64)
    unread = sum(1 for text in said if not text)
    outcome = scoring.Outcome(
        examples=np.concatenate([own * right[:, None], own], axis=1),
        blocks=blocks,
        per_class={"average_accuracy": _each},
        class_names=tuple(kinds),
    )
    metrics: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "accuracy": _overall,
        "average_accuracy": lambda sums: np.nanmean(_each(sums), axis=-1),
    }
    note = f"{unread} of {len(said)} questions were not understood and count as wrong"
    return scoring.cards(replace(card, note=note if unread else ""), metrics, outcome)


def _overall(sums: np.ndarray) -> np.ndarray:
    right, count = np.split(sums, 2, axis=-1)
    return right.sum(axis=-1) / np.maximum(count.sum(axis=-1), 1)


def _each(sums: np.ndarray) -> np.ndarray:
    right, count = np.split(sums, 2, axis=-1)
    return np.where(count > 0, right / np.maximum(count, 1), np.nan)
