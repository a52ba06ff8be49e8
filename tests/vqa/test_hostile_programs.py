"""Programs that nobody has read: refused, or stopped before they take time or memory."""

import time
import tracemalloc

import numpy as np
import pytest

from rsvl_jax.errors import UserError
from rsvl_jax.vqa import interpreter, objects
from rsvl_jax.vqa.looking import Masks, Similarities
from rsvl_jax.vqa.primitives import MOST_NAMES, Primitives

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
    "sized(find('lake'), find('lake'))",
    "shaped(find('lake'), 1)",
    "find(find('lake'))",
    "where(find('lake'), find('lake'), find('lake'))",
    "find('nothing like it')",
    "a" * 1900,
    "a" * 1900 + "()",
    "'\\n' + 1",
    "find('\\n')",
    "find(" * 60 + "'lake'" + ")" * 60,
    "f'" * 300,
    "{" * 900,
    "~" * 1900 + "1",
    "not " * 450 + "True",
    "lambda:" * 280 + "1",
    "1 if True else " * 130 + "1",
    "0x" + "f" * 1900,
    "1e400",
    "match 1:\n  case _: 1",
    "x: int = 1\nx",
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
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_honest_programs_run():
    functions = Primitives(Masks({"lake": np.eye(6, dtype=bool)})).functions()
    program = (
        'n = count(find("lake"))\nm = n * 2 + 1\n"many" if m // 2 >= 1 and not n > 5 else "few"'
    )
    assert interpreter.run(program, functions) == "many"
    assert interpreter.run('area(find("lake")) / 3', functions) == 2
    assert interpreter.run('exists(find("lake")) or 1 / 0 > 1', functions) is True


def speckles(side):
    found = np.zeros((side, side), bool)
    found[::2, ::2] = True
    return Primitives(Masks({"tree": found})).functions()


@pytest.mark.parametrize(
    ("side", "program", "what"),
    [
        (460, "count(find('tree'))", f"52900 things are more than {objects.MOST}"),
        (200, "count(where(find('tree'), 'next', find('tree')))", "too many to compare"),
    ],
)
def test_noise_is_refused(side, program, what):
    with pytest.raises(UserError, match=what):
        interpreter.run(program, speckles(side))


def test_a_program_looks_for_so_many_names():
    names = [f"thing {number}" for number in range(MOST_NAMES + 1)]
    functions = Primitives(Masks(dict.fromkeys(names, np.ones((4, 4), bool)))).functions()
    found = [f"exists(find('{name}'))" for name in names]
    assert interpreter.run(" and ".join(found[:-1]), functions) is True
    with pytest.raises(UserError, match="33 names in an image of 4 x 4 pixels are too many"):
        interpreter.run(" and ".join(found), functions)


def test_similarities_that_do_not_fit_are_not_computed():
    def scores(names):
        raise AssertionError

    looker = Similarities(scores, (20_000, 20_000))
    with pytest.raises(UserError, match="6 names in an image of 20000 x 20000 pixels"):
        looker.mask("lake")


def test_the_longest_programs_end_soon():
    """As many of the dearest calls as a program may have, on the worst mask that is let through."""
    functions = speckles(88)  # 1,936 things, 3.7 million pairs
    dear = "count(where(find('tree'),'next',find('tree')))"
    begin = time.process_time()
    assert interpreter.run("+".join([dear] * 17), functions) == 17 * 44**2
    assert time.process_time() - begin < 10
    with pytest.raises(UserError, match="more than 300 parts"):
        interpreter.run("\n".join(f"x = {dear}" for _ in range(17)) + "\n" + dear, functions)


def test_boxes_that_overlap_cost_no_memory():
    """Stripes at a slant: each one's box is nearly the image."""
    side = 800
    rows, columns = np.indices((side, side))
    functions = Primitives(Masks({"field": (rows + columns) % 4 == 0})).functions()
    tracemalloc.start()
    assert interpreter.run("count(find('field'))", functions) == side // 2
    assert tracemalloc.get_traced_memory()[1] < 30 * side * side
    tracemalloc.stop()


def test_names_that_a_program_looks_for():
    program = "a = find('x')\ncount(a) > count(find('y')) or exists(sized(find('x'), 'small'))"
    assert interpreter.named(program, "find") == ["x", "y"]
    with pytest.raises(UserError, match="cannot be parsed"):
        interpreter.named("find(", "find")
