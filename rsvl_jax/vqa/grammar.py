"""Questions of RSVQA's templates as programs.

Source of the templates: the released question builder (syvlo/RSVQA, AutomaticDB): presence, count,
comparison, area and rural or urban; "in the image" may end any of them; things may have a size or a
shape, and a relation to another thing.
"""

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
# Plurals that are no plain s, of the things that questions are about.
_SINGULAR = {"cemeteries": "cemetery", "churches": "church", "people": "person"}
_AS_THEY_ARE = ("grass", "bus")


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
    for pattern, make in _FORMS:
        match = pattern.fullmatch(plain)
        if match:
            return make(*match.groups())
    raise UserError(
        f"the question {question!r} has no form that is understood: ask 'is there a ...', "
        "'how many ... are there', 'are there more (less) ... than ...', 'is the number of ... "
        "equal to the number of ...', 'what is the area covered by ...', 'where is the ...', or "
        "'is it a rural or an urban area'; or give --endpoint"
    )


def _ask(kind: str, function: str) -> Callable[[str], Parsed]:
    """A question that is one function of some things."""

    def make(thing: str) -> Parsed:
        code, names = _things(thing)
        return Parsed(kind, f"{function}({code})", names)

    return make


def _compare(sign: str) -> Callable[[str, str], Parsed]:
    def make(one: str, other: str) -> Parsed:
        (left, names), (right, more) = _things(one), _things(other)
        return Parsed(COMPARISON, f"count({left}) {sign} count({right})", names + more)

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
    name = singular(text)
    if '"' in name or "\\" in name:
        raise UserError(f"{text!r} is no name of a thing")
    return f'find("{name}")', (name,)


def singular(text: str) -> str:
    """ "water areas" -> "water area"."""
    head, _, last = text.rpartition(" ")
    if text in _AS_THEY_ARE or last in _AS_THEY_ARE or last.endswith("ss"):
        return text
    last = _SINGULAR.get(last, last.removesuffix("s"))
    return f"{head} {last}".strip()


_T = r"(.+?)"
_KINDS_OF_AREA = r"(?:a rural or an urban|an urban or (?:a )?rural|rural or urban)(?: area)?"
_FORMS: tuple[tuple[re.Pattern[str], Callable[..., Parsed]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (rf"is (?:it|this) {_KINDS_OF_AREA}", _rural_urban),
        (rf"are there (?:less|fewer) {_T} than {_T}", _compare("<")),
        (rf"are there more {_T} than {_T}", _compare(">")),
        (rf"is the number of {_T} equal to the number of {_T}", _compare("==")),
        (rf"how many {_T}(?: are there| can be seen| are visible)?", _ask(COUNT, "count")),
        (rf"what is the (?:number|amount) of {_T}", _ask(COUNT, "count")),
        (rf"what is the area (?:covered by|of) {_T}", _ask(AREA, "area")),
        (rf"where (?:is|are) {_T}", _ask(PLACE, "place")),
        (rf"(?:is|are) there {_T}", _ask(PRESENCE, "exists")),
        (rf"(?:is|are) {_T} present", _ask(PRESENCE, "exists")),
    )
)
