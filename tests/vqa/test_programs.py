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
        (
            "How many small ponds left of the large lake are there?",
            'count(where(sized(find("pond"), "small"), "left", sized(find("lake"), "large")))',
        ),
    ],
)
def test_other_wordings(question, program):
    assert grammar.parse(question).program == program


def test_questions_without_a_form_say_which_there_are():
    with pytest.raises(UserError, match="'how many ... are there'"):
        grammar.parse("Why is the sea blue?")


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


def test_answers_are_those_of_the_masks():
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
        functions = Primitives(Masks(masks, metres)).functions()
        for _ in range(40):
            text, kind, _ = rsvqa_questions.question(rng)
            parsed = grammar.parse(text)
            found = answers.written(interpreter.run(parsed.program, functions), parsed.kind)
            assert found == by_force(text, kind, masks, metres), text
            kinds.add((kind, found in ("no", "0", "0m2", "rural")))
            asked += 1
    assert len(kinds) == 10 and asked == 480  # every kind, with and without anything there


def test_small_parts_are_no_things():
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = mask[3:6, 3:6] = mask[6, 6] = True  # the last touches by a corner
    assert [thing.pixels for thing in things(mask)] == [1, 10]
    assert [thing.pixels for thing in things(mask, least=2)] == [10]


def test_places():
    mask = np.zeros((9, 9), bool)
    looker = Masks({"lake": mask})
    primitives = Primitives(looker)
    assert interpreter.run('place(find("lake"))', primitives.functions()) == "nowhere"
    mask[0:2, 7:9] = True
    assert interpreter.run('place(find("lake"))', primitives.functions()) == "top right"
    mask[:] = True
    assert interpreter.run('place(find("lake"))', primitives.functions()) == "center"
    assert interpreter.run('share(find("lake"))', primitives.functions()) == 1.0


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
    apart = Similarities(scores, (1, 3), background=("ground",), margin=0.2)
    assert not apart.mask("lake").any()


# --- what nobody may run ----------------------------------------------------------------------

HOSTILE = [
    "import os",
    "__import__('os').system('true')",
    "from os import system",
    "open('/etc/passwd').read()",
    "eval('1')",
    "exec('x = 1')",
    "find.__globals__",
    "find('a').__class__",
    "().__class__.__bases__[0].__subclasses__()",
    "(1).__class__",
    "'a'.__class__.__mro__",
    "getattr(find, '__globals__')",
    "globals()",
    "locals()",
    "vars()",
    "dir()",
    "type(1)",
    "lambda: 1",
    "(lambda f: f(f))(lambda f: f(f))",
    "while True: pass",
    "for i in range(10): pass",
    "[x for x in range(10**9)]",
    "{x: x for x in 'ab'}",
    "sum(x for x in range(10**9))",
    "def f(): return f()\nf()",
    "class A: pass",
    "10**10**10",
    "2 << 100000000",
    "'a' * 10**10",
    "'a' + 'b'",
    "999999999999999 * 999999999999999 * 2",
    "x = 1000000000\nx = x * x\nx = x * x\nx",
    "1e308 * 10",
    "f'{find}'",
    "f'{1:>1000000000}'",
    "'%s' % 1",
    "'{}'.format(1)",
    "(x := 5)",
    "find(*['a'])",
    "find(**{'name': 'a'})",
    "find(name='lake')",
    "[1, 2, 3][0]",
    "{'a': 1}",
    "{1, 2}",
    "(1, 2)",
    "print('x')",
    "find('lake')[0]",
    "find('lake')",
    "find = 5\nfind",
    "_x = 1\n_x",
    "a, b = 1, 2\na",
    "x = y = 1\nx",
    "x += 1",
    "del find",
    "assert False",
    "raise ValueError",
    "try:\n  1\nexcept: 2",
    "with open('x') as f: 1",
    "global x",
    "async def f(): pass",
    "await find('a')",
    "yield 1",
    "count(find('lake')) > count",
    "1 < 2 < 3",
    "1 in (1,)",
    "find is find",
    "~1",
    "1 @ 2",
    "1 and 2",
    "count(5)",
    "count('lake')",
    "find(5)",
    "find('')",
    "sized(find('lake'), 'huge')",
    "where(find('lake'), 'inside', find('lake'))",
    "1 / 0",
    "nan",
    "True + True",
    "...",
    "None",
    "b'bytes'",
    "1j",
    "",
    "   ",
    "# nothing",
    "(" * 500 + "1" + ")" * 500,
    "-" * 5000 + "1",
    "not " * 1000 + "True",
    "1" + "+1" * 1000,
    "'" + "a" * 500 + "'",
    "9" * 1500,
    "\x00",
    "\ud800",
]


@pytest.mark.parametrize("program", HOSTILE)
def test_hostile_programs_are_refused(program):
    functions = Primitives(Masks({"lake": np.ones((4, 4), bool)})).functions()
    with pytest.raises(UserError) as error:
        interpreter.run(program, functions)
    assert "\n" not in str(error.value)


def test_honest_programs_run():
    functions = Primitives(Masks({"lake": np.eye(6, dtype=bool)})).functions()
    program = (
        'n = count(find("lake"))\nm = n * 2 + 1\n"many" if m // 2 >= 1 and not n > 5 else "few"'
    )
    assert interpreter.run(program, functions) == "many"
    assert interpreter.run('area(find("lake")) / 3', functions) == 2
    assert interpreter.run('exists(find("lake")) or 1 / 0 > 1', functions) is True


def test_too_many_things_to_compare_are_refused():
    speckles = np.zeros((200, 200), bool)
    speckles[::2, ::2] = True
    functions = Primitives(Masks({"tree": speckles})).functions()
    with pytest.raises(UserError, match="too many to compare"):
        interpreter.run('count(where(find("tree"), "left", find("tree")))', functions)


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
    from rsvl_jax.vqa.made_questions import made

    classes = ("desert", "open water", "forest", "cropland")
    masks = np.random.default_rng(2).integers(0, 4, (30, 6, 6)).astype(np.uint8)
    masks = masks.repeat(4, axis=1).repeat(4, axis=2)
    masks[masks == 3] = 255
    found = made(masks, classes, seed=0)
    assert found == made(masks, classes, seed=0) and len(found) > 80
    for kind in ("presence", "comp"):
        said = [q.answer for q in found if q.kind == kind]
        assert abs(said.count("yes") - said.count("no")) <= 1
    for question in found[:20]:
        looker = Masks({name: masks[question.image] == n for n, name in enumerate(classes)})
        assert scoring.answer(question, looker) == question.answer
    assert scoring.answer(Question(0, "Why?", "", ""), looker) == ""
