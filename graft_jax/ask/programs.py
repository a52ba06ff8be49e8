"""Programs for questions that have no template, written by a language model.

What it writes is run by `rsvl_jax.vqa.interpreter`, which can call the primitives and nothing else.
"""

import asyncio
import re
from typing import Any

from rsvl_jax.chat.access import Access
from rsvl_jax.errors import UserError

_FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
_LONGEST_WAIT = 30.0  # seconds
_TIMEOUT, _MOST_TOKENS, _TRIES = 60.0, 400, 3
_INSTRUCTIONS = """Write a program that answers a question about a satellite image. It consists
of lines `name = expression` and a last line, an expression that is the answer. Allowed: numbers,
texts, names, comparisons, and, or, not, x if y else z, + - * / //, and these functions:
find(name) -> things, e.g. find("building")
count(things) -> number; exists(things) -> truth
area(things) -> square metres; share(things) -> 0 to 1
sized(things, "small"|"medium"|"large") -> things
shaped(things, "square"|"rectangular"|"circular") -> things
where(things, "top"|"bottom"|"left"|"right"|"next", others) -> things that lie so beside any other
place(things) -> text, such as "top left"
No loops, imports, attributes or definitions. Reply with the program alone.

Question: Are there more roads than rivers?
count(find("road")) > count(find("river"))

Question: """


def ask(where: Access, question: str) -> str:
    """A program for the question. Raises UserError where the endpoint gives none."""
    return asyncio.run(_ask(where, question))


async def _ask(where: Access, question: str) -> str:
    try:
        from rsvl_jax.chat.endpoint import Endpoint, Failure
    except ImportError as error:
        raise UserError(f"{error}: pip install 'rsvl-jax[ground]'") from error

    said = ""
    async with Endpoint(where, 1, _TIMEOUT, _MOST_TOKENS, {"temperature": 0}) as endpoint:
        for turn in range(_TRIES):
            try:
                reply = await endpoint.ask(_messages(question))
                return program_of(reply.content)
            except Failure as failure:
                said = f"{failure.reason} {failure.detail}".strip()
                if not failure.again or turn + 1 == _TRIES:
                    break
                wait = 0.5 * 2**turn if failure.after is None else failure.after
                await asyncio.sleep(min(wait, _LONGEST_WAIT))
    raise UserError(f"the endpoint wrote no program: {said}")


def _messages(question: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": _INSTRUCTIONS + question}]


def program_of(content: str) -> str:
    """What a model said, or the first code in fences, which many put around it."""
    fenced = _FENCED.search(content)
    return (fenced[1] if fenced else content).strip()
