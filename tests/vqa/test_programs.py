"""Programs: questions become them, masks answer them, and nothing else runs."""

import random

import numpy as np
import pytest
import rsvqa_questions

from rsvl_jax.errors import UserError
from rsvl_jax.vqa import answers, grammar, interpreter
from rsvl_jax.vqa.looking import Masks, Similarities
from rsvl_jax.vqa.objects import things
from rsvl_jax.vqa.primitives import Primitives


def test_nearly_every_question_of_the_templates_parses():
    rng = random.Random(0)
    asked = [rsvqa_questions.question(rng) for _ in range(4000)]
    right = []
    for text, kind, program in asked:
        try:
            found = grammar.parse(text)
        except UserError:
            right.append(False)
            continue
        right.append((found.kind, found.program) == (kind, program))
    assert np.mean(right) >= 0.99


@pytest.mark.parametrize(
    ("question", "program"),
    [
        ("Is there any water in the picture?", 'exists(find("water"))'),
        ("are there fewer  Roads than churches", 'count(find("road")) < count(find("church"))'),
        ("How many lakes?", 'count(find("lake"))'),
        ("Where is the desert?", 'place(find("desert"))'),
        ("Is it rural or urban?", '"urban" if count(find("building")) > 2 else "rural"'),
        ("How many beaches are there?", 'count(find("beach"))'),
        ("How many factories are visible?", 'count(find("factory"))'),
        ("Is there a campus?", 'exists(find("campus"))'),
        ("Is there an oasis?", 'exists(find("oasis"))'),
        ("How many grasss are there?", 'count(find("grass"))'),  # as the builder says it
        ("How many cemeterys are there?", 'count(find("cemetery"))'),
        ("How many places of worship are there?", 'count(find("place of worship"))'),
        ("How many place of worships are there?", 'count(find("place of worship"))'),
        ("Is there snow and ice?", 'exists(find("snow and ice"))'),
        ("Is the forest larger than the lake?", 'area(find("forest")) > area(find("lake"))'),
        (
            "Is the area covered by roads smaller than the area covered by large lakes?",
            'area(find("road")) < area(sized(find("lake"), "large"))',
        ),
        (
            "Are there more roads on the left of a  lake than ponds?",
            'count(where(find("road"), "left", find("lake"))) > count(find("pond"))',
        ),
        (
            "How many small ponds left of the large lake are there?",
            'count(where(sized(find("pond"), "small"), "left", sized(find("lake"), "large")))',
        ),
    ],
)
def test_other_wordings(question, program):
    assert grammar.parse(question).program == program


@pytest.mark.parametrize(
    "question",
    [
        "Why is the sea blue?",
        "Is there a road and a river?",
        "How many roads and rivers are there?",
        "How many people live in this area?",
        "Is there more water than forest?",
        "How many kilometres is it to the sea?",
        "Is there a building that is not a house?",
        "Where is the largest building?",
        "Is there a road above the building left of a lake?",  # of which is the lake spoken?
        'Is there a "x"?',
        "Is there a \\?",
        "how many",
        "",
        "Is there a " + "very " * 5000 + "long road?",
    ],
)
def test_questions_without_a_form_say_which_there_are(question):
    with pytest.raises(UserError, match="'how many ... are there'") as error:
        grammar.parse(question)
    assert "\n" not in str(error.value) and len(str(error.value)) < 900


# --- answers beside brute force ---------------------------------------------------------------


def parts(mask):
    """Connected parts by a flood fill, as lists of (row, column)."""
    left, found = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        front, part = [left.pop()], []
        while front:
            row, column = front.pop()
            part.append((row, column))
            near = {(row + a, column + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            front += near
        found.append(part)
    return found


def boxes(part):
    rows, columns = [p[0] for p in part], [p[1] for p in part]
    return min(rows), max(rows), min(columns), max(columns)


def lies(one, relation, other, near):
    top, bottom, left, right = boxes(one)
    t, b, le, r = boxes(other)
    if relation == "next":
        gap = (max(top - b - 1, t - bottom - 1, 0), max(left - r - 1, le - right - 1, 0))
        return np.hypot(*gap) < near
    row, column = (t + b) / 2, (le + r) / 2
    return {
        "top": bottom < row,
        "bottom": top > row,
        "left": right < column,
        "right": left > column,
    }[relation]


def find_by_force(text, masks, metres):
    """Things that the words of a question mean, from masks alone."""
    for words, relation in rsvqa_questions.RELATIONS.items():
        head, found, rest = text.partition(f" {words} ")
        if found:
            ones = find_by_force(head, masks, metres)
            others = find_by_force(rest.split(" ", 1)[1], masks, metres)
            return [
                o
                for o in ones
                if any(o != p and lies(o, relation, p, 1000 / metres) for p in others)
            ]
    first, _, rest = text.partition(" ")
    if first in ("small", "medium", "large"):
        low, high = {"small": (0, 100), "medium": (100, 500), "large": (500, np.inf)}[first]
        return [p for p in find_by_force(rest, masks, metres) if low <= len(p) * metres**2 < high]
    if first in ("square", "rectangular", "circular"):
        return [p for p in find_by_force(rest, masks, metres) if is_shaped(p, first)]
    name = text if text in masks else text.removesuffix("s")
    return parts(masks[name])


def is_shaped(part, shape):
    top, bottom, left, right = boxes(part)
    height, width = bottom - top + 1, right - left + 1
    fill, even = len(part) / (height * width), min(height, width) / max(height, width) >= 0.9
    if shape == "circular":
        return 0.6 <= fill < 0.95 and even
    return fill >= 0.85 and (even or shape == "rectangular")


def by_force(text, kind, masks, metres):
    """The answer to a template's question."""
    plain = text.rstrip("?").removesuffix(" in the image")

    def found(words):
        return find_by_force(words, masks, metres)

    if kind == "rural_urban":
        return "urban" if len(found("building")) > 2 else "rural"
    if kind == "presence":
        words = plain.removeprefix("Is there a ").removeprefix("Is a ").removesuffix(" present")
        return "yes" if found(words) else "no"
    if kind == "count":
        for start in ("How many ", "What is the number of ", "What is the amount of "):
            plain = plain.removeprefix(start)
        return str(len(found(plain.removesuffix(" are there"))))
    if kind == "area":
        pixels = sum(map(len, found(plain.removeprefix("What is the area covered by "))))
        return answers.bucket(int(pixels * metres**2), "m2")
    if "equal" in plain:
        one, other = plain.removeprefix("Is the number of ").split(" equal to the number of ")
        return "yes" if len(found(one)) == len(found(other)) else "no"
    less = "less" in plain
    one, other = plain.removeprefix(f"Are there {'less' if less else 'more'} ").split(" than ")
    one, other = len(found(one)), len(found(other))
    return "yes" if (one < other if less else one > other) else "no"


def perfect(masks, metres):
    """What a model that sees everything would say: cosines of 0.3 where a thing is, else of 0.1."""

    def scores(names):
        shape = next(iter(masks.values())).shape
        ground = np.full(shape, 0.2, np.float32)
        return np.stack([np.where(masks[n], 0.3, 0.1) if n in masks else ground for n in names])

    return Similarities(scores, next(iter(masks.values())).shape, metres, background=("ground",))


@pytest.mark.parametrize("looker", [Masks, perfect])
def test_answers_are_those_of_the_masks(looker):
    rng, numbers, metres = random.Random(1), np.random.default_rng(1), 7.0
    names = [*rsvqa_questions.OBJECTS, *rsvqa_questions.LAND_USES]
    kinds, asked = set(), 0
    for _ in range(12):
        masks = {}
        for name in names:
            mask = np.zeros((24, 28), bool)
            for _ in range(numbers.integers(0, 5)):
                row, column = numbers.integers(0, 20, 2)
                height, width = numbers.integers(1, 7, 2)
                mask[row : row + height, column : column + width] = True
            masks[name] = mask
        functions = Primitives(looker(masks, metres)).functions()
        for _ in range(40):
            text, kind, _ = rsvqa_questions.question(rng)
            parsed = grammar.parse(text)
            found = answers.written(interpreter.run(parsed.program, functions), parsed.kind)
            assert found == by_force(text, kind, masks, metres), text
            kinds.add((kind, found in ("no", "0", "0m2", "rural")))
            asked += 1
    assert len(kinds) == 10 and asked == 480  # every kind, with and without anything there


@pytest.mark.parametrize("relation", ["top", "bottom", "left", "right", "next"])
def test_things_beside_things_of_one_name(relation):
    """None is beside itself, and each of the others counts, not the last one alone."""
    numbers, metres = np.random.default_rng(4), 250.0
    for density in (0.002, 0.02, 0.1):
        masks = {"lake": numbers.random((30, 30)) < density, "road": np.zeros((30, 30), bool)}
        functions = Primitives(Masks(masks, metres)).functions()
        for other in masks:
            program = f'count(where(find("lake"), "{relation}", find("{other}")))'
            ones, others = parts(masks["lake"]), parts(masks[other])
            near = 1000 / metres
            right = sum(any(o != p and lies(o, relation, p, near) for p in others) for o in ones)
            assert interpreter.run(program, functions) == right


def test_one_thing_is_not_next_to_itself():
    functions = Primitives(Masks({"lake": np.ones((3, 3), bool)})).functions()
    assert interpreter.run('count(where(find("lake"), "next", find("lake")))', functions) == 0


def test_areas_are_compared():
    masks = {"lake": np.eye(9, dtype=bool), "road": np.tri(9, dtype=bool)}
    functions = Primitives(Masks(masks)).functions()
    for question, right in (
        ("Is the lake larger than the road?", False),
        ("Is the lake smaller than the road?", True),
        ("Is the area covered by roads bigger than the area covered by lakes?", True),
    ):
        assert interpreter.run(grammar.parse(question).program, functions) is right


def test_small_parts_are_no_things():
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[3:6, 3:6] = mask[6, 6] = True  # the last touches by a corner
    assert [thing.pixels for thing in things(mask)] == [1, 10]
    assert [thing.pixels for thing in things(mask, least=2)] == [10]


def test_places():
    mask = np.zeros((9, 9), bool)

    def ask(program):
        return interpreter.run(program, Primitives(Masks({"lake": mask})).functions())

    assert ask('place(find("lake"))') == "nowhere"
    mask[0:2, 7:9] = True
    assert ask('place(find("lake"))') == "top right"
    mask[:] = True
    assert ask('place(find("lake"))') == "center"
    assert ask('share(find("lake"))') == 1.0


def test_similarities_show_what_is_nearer_than_the_background():
    calls = []

    def scores(names):
        calls.append(list(names))
        values = {"lake": [0.3, 0.1, np.nan], "ground": [0.2, 0.2, np.nan]}
        return np.array([[values[name]] for name in names], np.float32)

    looker = Similarities(scores, (1, 3), background=("ground", "lake"))
    assert looker.mask("lake").tolist() == [[True, False, False]]
    looker.mask("lake")
    assert calls == [["lake", "ground"]]
    assert looker.mask("ground").tolist() == [[False, True, False]]
    assert calls == [["lake", "ground"]]  # nothing is asked for where all is known
    apart = Similarities(scores, (1, 3), background=("ground",), margin=0.2)
    assert not apart.mask("lake").any()
    with pytest.raises(UserError, match="'ground' is the only background word"):
        apart.mask("ground")


def test_answers_as_rsvqa_writes_them():
    assert answers.written(True, "presence") == "yes"
    assert answers.written(12, "count") == "12"
    assert answers.written(12, "count", bucket_counts=True) == "between 10 and 100"
    assert answers.written(0.0, "area") == "0m2"
    assert [answers.bucket(n, "m2") for n in (10, 11, 1000, 1001)] == [
        "between 0m2 and 10m2",
        "between 10m2 and 100m2",
        "between 100m2 and 1000m2",
        "more than 1000m2",
    ]
    assert answers.normal("1044m2") == "more than 1000m2"
    assert answers.normal(" Yes. ") == "yes"
    assert answers.normal("7", bucket_counts=True) == "between 0 and 10"


def test_questions_made_from_masks_are_balanced_and_right():
    from rsvl_jax.evaluation import vqa as scoring
    from rsvl_jax.evaluation_sets.collection import Question
    from rsvl_jax.vqa.made_questions import KINDS, made

    classes = ("desert", "open water", "forest", "cropland")
    masks = np.random.default_rng(2).integers(0, 4, (30, 6, 6)).astype(np.uint8)
    masks = masks.repeat(4, axis=1).repeat(4, axis=2)
    masks[masks == 3] = 255
    kinds = (*KINDS, "area")
    found = made(masks, classes, seed=0, each=4, kinds=kinds)
    assert found == made(masks, classes, seed=0, each=4, kinds=kinds) and len(found) > 110
    assert {q.kind for q in made(masks, classes, seed=0)} == set(KINDS)
    for kind in ("presence", "comp", "area"):
        said = [q.answer for q in found if q.kind == kind]
        assert abs(said.count("yes") - said.count("no")) <= 1
    for question in found[:20]:
        own = {name: masks[question.image] == n for n, name in enumerate(classes)}
        looker = Masks(own)
        assert scoring.answer(question, looker) == question.answer
        if question.kind == "area":
            words = question.text.removeprefix("Is the area covered by ").rstrip("?")
            one, other = words.split(" larger than the area covered by ")
            larger = own[one[:-1]].sum() > own[other[:-1]].sum()
            assert question.answer == ("yes" if larger else "no")
    assert scoring.answer(Question(0, "Why?", "", ""), looker) == ""
