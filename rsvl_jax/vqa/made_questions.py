"""Questions with answers from masks: balanced, seeded, and in the words of RSVQA's templates."""

from collections.abc import Sequence

import numpy as np

from rsvl_jax.evaluation_sets.collection import Question
from rsvl_jax.vqa import answers, grammar, interpreter
from rsvl_jax.vqa.looking import Masks
from rsvl_jax.vqa.primitives import Primitives

_TRIES = 40
_WORDS = {
    grammar.PRESENCE: "Is there a {one}?",
    grammar.COUNT: "How many {one}s are there?",
    grammar.COMPARISON: "Are there more {one}s than {other}s?",
    grammar.AREA: "Is the area covered by {one}s larger than the area covered by {other}s?",
}
KINDS = (grammar.PRESENCE, grammar.COUNT, grammar.COMPARISON)


def made(
    masks: np.ndarray,
    classes: Sequence[str],
    *,
    seed: int,
    each: int = 3,
    least: int = 1,
    kinds: Sequence[str] = KINDS,
) -> list[Question]:
    """Questions about every image: presence, count, comparison of counts or, if asked for, areas.

    Args:
      masks: uint8 [n,H,W], index into `classes`, or more than they are where unknown.
      seed: of the draws. each: questions an image, one of each kind in turn.
      least: pixels of the smallest thing.
      kinds: of questions, "presence", "count", "comp" or "area". Areas are compared: RSVQA's own
        answers tell nothing of tiles of many kilometres, on which all areas exceed 1,000 m2.

    As many are answered with yes as with no; counts are of classes that are there.
    """
    rng = np.random.default_rng(seed)
    found: list[Question] = []
    wanted = {kind: True for kind in kinds if kind != grammar.COUNT}
    for row, mask in enumerate(masks):
        looker = Masks({name: mask == number for number, name in enumerate(classes)})
        functions = Primitives(looker, least).functions()
        for turn in range(each):
            kind = kinds[turn % len(kinds)]
            made_one = _one(rng, kind, classes, functions, wanted.get(kind))
            if made_one is None:
                continue
            text, answer = made_one
            if kind in wanted:
                wanted[kind] = not wanted[kind]
            found.append(Question(row, text, answer, kind, id=f"{row}-{turn}"))
    return found


def _one(
    rng: np.random.Generator,
    kind: str,
    classes: Sequence[str],
    functions: dict,
    wanted: bool | None,
) -> tuple[str, str] | None:
    """A question of that kind with the wanted answer, and it; None where none comes up."""
    for _ in range(_TRIES):
        one, other = (classes[place] for place in rng.permutation(len(classes))[:2])
        text = _WORDS[kind].format(one=one, other=other)
        value = interpreter.run(grammar.parse(text).program, functions)
        right = value > 0 if wanted is None else value == wanted
        if right:
            return text, answers.written(value, kind)
    return None
