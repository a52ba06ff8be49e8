"""Questions of RSVQA's templates as programs.

Source of the templates: the released question builder (syvlo/RSVQA, AutomaticDB): presence, count,
comparison, area and rural or urban; "in the image" may end any of them; things may have a size or a
shape, and a relation to another thing.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from rsvl_jax.errors import UserError
from rsvl_jax.vqa.primitives import SHAPES, SIZES, URBAN

PRESENCE, COUNT, COMPARISON, AREA = "presence", "count", "comp", "area"
RURAL_URBAN, PLACE = "rural_urban", "place"

_RELATIONS = {
    "at the top of": "top",
    "above": "top",
    "at the bottom of": "bottom",
    "below": "bottom",
    "on the left of": "left",
    "to the left of": "left",
    "left of": "left",
    "on the right of": "right",
    "to the right of": "right",
    "right of": "right",
    "next to": "next",
}
_RELATION = re.compile(
    rf"^(?P<one>.+?) (?P<how>{'|'.join(map(re.escape, _RELATIONS))}) (?:an?|the) (?P<other>.+)$"
)
_ARTICLE = re.compile(r"^(?:an?|the|any) ")
_END = re.compile(r"(?: in (?:the|this) (?:image|picture|scene))?\s*[?.!]*$")
# What no name of a thing holds: a question with it says more than its form can carry.
_NO_NAMES = frozenset(
    ("is", "are", "was", "were", "be", "can", "do", "does", "did", "has", "have", "live", "lives")
    + ("that", "which", "who", "what", "how", "if", "not", "no", "without", "between", "it", "this")
    + ("than", "more", "less", "fewer", "most", "least", "there")
    + ("largest", "biggest", "smallest")
)
_LISTS = re.compile(r" (?:and|or) (?:an?|the) |s (?:and|or) \w+s$")
_LONGEST = 300  # characters of a question
_LONGEST_NAME = 6  # words: "evergreen broadleaf forest", "place of worship"
_PLURALS = {"people": "person", "buses": "bus", "series": "series", "species": "species"}
_ENDINGS = (
    (re.compile(r"sss$"), "ss"),  # RSVQA's builder adds an s to whatever there is
    (re.compile(r"(?<=..)ies$"), "y"),
    (re.compile(r"(ch|sh|ss|x|z)es$"), r"\1"),
    (re.compile(r"(?<![sui])s$"), ""),  # but not of "grass", "campus", "oasis"
)


class _NoName(Exception):
    """Words that say more than the name of one kind of thing."""


@dataclass(frozen=True)
class Parsed:
    """A question.

    Attributes:
      kind: as RSVQA has it, such as "count".
      program: that answers it, see `interpreter`.
      things: names that it looks for.
    """

    kind: str
    program: str
    things: tuple[str, ...]


def parse(question: str) -> Parsed:
    """The program of a question. Raises UserError, with the forms that are understood, for none."""
    plain = _END.sub("", " ".join(question.lower().split())).strip()
    forms = _FORMS if len(plain) <= _LONGEST else ()
    for pattern, make in forms:
        match = pattern.fullmatch(plain)
        if match:
            with contextlib.suppress(_NoName):
                return make(*match.groups())
    raise UserError(
        f"the question {question[:_LONGEST]!r} has no form that is understood: ask 'is there a "
        "...', 'how many ... are there', 'are there more (less) ... than ...', 'is the number of "
        "... equal to the number of ...', 'what is the area covered by ...', 'is the ... larger "
        "(smaller) than the ...', 'where is the ...', or 'is it a rural or an urban area', each of "
        "one kind of thing; or give --endpoint"
    )


def _ask(kind: str, function: str) -> Callable[[str], Parsed]:
    """A question that is one function of some things."""

    def make(thing: str) -> Parsed:
        code, names = _things(thing)
        return Parsed(kind, f"{function}({code})", names)

    return make


def _compare(sign: str, of: str = "count") -> Callable[[str, str], Parsed]:
    def make(one: str, other: str) -> Parsed:
        (left, names), (right, more) = _things(one), _things(other)
        return Parsed(COMPARISON, f"{of}({left}) {sign} {of}({right})", names + more)

    return make


def _rural_urban() -> Parsed:
    program = f'"urban" if count(find("building")) > {URBAN} else "rural"'
    return Parsed(RURAL_URBAN, program, ("building",))


def _things(text: str) -> tuple[str, tuple[str, ...]]:
    """Code that finds what a phrase says, and the names in it."""
    text = _ARTICLE.sub("", text.strip())
    match = _RELATION.fullmatch(text)
    if match:
        (one, names), (other, more) = _plain(match["one"]), _plain(match["other"])
        return f'where({one}, "{_RELATIONS[match["how"]]}", {other})', names + more
    return _plain(text)


def _plain(text: str) -> tuple[str, tuple[str, ...]]:
    """Things with a size or a shape, without relation."""
    text = _ARTICLE.sub("", text.strip())
    first, _, rest = text.partition(" ")
    if rest and first in SIZES:
        code, names = _plain(rest)
        return f'sized({code}, "{first}")', names
    if rest and first in SHAPES:
        code, names = _plain(rest)
        return f'shaped({code}, "{first}")', names
    name = _name(text)
    return f'find("{name}")', (name,)


def _name(text: str) -> str:
    """Of one kind of thing, singular. Raises _NoName for words that say more than a name."""
    words = text.split()
    says_more = not _NO_NAMES.isdisjoint(words) or _LISTS.search(text) or _RELATION.search(text)
    if not words or says_more or len(words) > _LONGEST_NAME or '"' in text or "\\" in text:
        raise _NoName
    return singular(text)


def singular(text: str) -> str:
    """ "water areas" -> "water area"; "places of worship" -> "place of worship"."""
    first, of, rest = text.partition(" of ")
    if of:
        one = singular(first)
        return f"{one} of {rest if one != first else singular(rest)}"
    head, _, last = text.rpartition(" ")
    if last in _PLURALS:
        last = _PLURALS[last]
    else:
        ending = next((pair for pair in _ENDINGS if pair[0].search(last)), None)
        last = ending[0].sub(ending[1], last) if ending else last
    return f"{head} {last}".strip()


_T = r"(.+?)"
_AREA = r"(?:the area (?:covered by|of) )?"
_KINDS_OF_AREA = r"(?:a rural or an urban|an urban or (?:a )?rural|rural or urban)(?: area)?"
_FORMS: tuple[tuple[re.Pattern[str], Callable[..., Parsed]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (rf"is (?:it|this) {_KINDS_OF_AREA}", _rural_urban),
        (rf"are there (?:less|fewer) {_T} than {_T}", _compare("<")),
        (rf"are there more {_T} than {_T}", _compare(">")),
        (rf"is the number of {_T} equal to the number of {_T}", _compare("==")),
        (rf"(?:is|are) {_AREA}{_T} (?:larger|bigger) than {_AREA}{_T}", _compare(">", "area")),
        (rf"(?:is|are) {_AREA}{_T} smaller than {_AREA}{_T}", _compare("<", "area")),
        (rf"how many {_T}(?: are there| can be seen| are visible)?", _ask(COUNT, "count")),
        (rf"what is the (?:number|amount) of {_T}", _ask(COUNT, "count")),
        (rf"what is the area (?:covered by|of) {_T}", _ask(AREA, "area")),
        (rf"where (?:is|are) {_T}", _ask(PLACE, "place")),
        (rf"(?:is|are) there {_T}", _ask(PRESENCE, "exists")),
        (rf"(?:is|are) {_T} present", _ask(PRESENCE, "exists")),
    )
)
