"""What a model answers, and whether it may be believed."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flavars_jax.ground_captions.pictures import Picture
from flavars_jax.ground_captions.rows import Row

SIDES = ("xmin", "ymin", "xmax", "ymax")
_LEAST_SIDE = 1.0  # pixels of the image as sent
_MOST_OBJECTS = 64
_FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)

_BOX = {
    "type": "object",
    "properties": {side: {"type": "number"} for side in SIDES},
    "required": list(SIDES),
    "additionalProperties": False,
}
_OBJECT = {
    "type": "object",
    "properties": {"phrase": {"type": "string"}, "tag": {"type": "string"}, "box": _BOX},
    "required": ["phrase", "tag", "box"],
    "additionalProperties": False,
}
# Named sides: of four bare numbers some models put y first. One schema for all rows, since servers
# compile each new one; so tags are checked here.
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "caption": {"type": "string"},
        "objects": {"type": "array", "items": _OBJECT},
    },
    "required": ["caption", "objects"],
    "additionalProperties": False,
}


class Invalid(Exception):
    """An answer that is not taken. reason: a short fixed phrase; detail: the offending part."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.reason, self.detail = reason, detail[:300]


@dataclass(frozen=True)
class Grounded:
    """A caption, and by the same number phrases of it, their tags and boxes.

    boxes: xmin, ymin, xmax, ymax in pixels of the original image.
    """

    caption: str
    phrases: tuple[str, ...]
    tags: tuple[str, ...]
    boxes: tuple[tuple[float, float, float, float], ...]


def check(content: str, row: Row, picture: Picture, *, units: str, longest: int) -> Grounded:
    """The answer in a message's content. Raises Invalid for the first thing that is wrong with it.

    units: of its boxes, see `prompt.UNITS`; longest: characters of a caption.
    """
    answer = _parse(content)
    caption = _caption(answer.get("caption"), longest)
    objects = answer.get("objects")
    if not isinstance(objects, list) or not all(isinstance(o, dict) for o in objects):
        raise Invalid("objects are no list of objects", str(objects))
    if len(objects) > _MOST_OBJECTS:
        raise Invalid("too many objects", f"{len(objects)} of at most {_MOST_OBJECTS}")
    found = [
        (_phrase(o.get("phrase"), caption), _tag(o.get("tag"), row), _box(o, picture, units))
        for o in objects
    ]
    for index, item in enumerate(found):
        if item in found[:index]:
            raise Invalid("an object is there twice", item[0])
    phrases, tags, boxes = zip(*found, strict=True) if found else ((), (), ())
    return Grounded(caption, phrases, tags, boxes)


def _parse(content: str) -> dict[str, Any]:
    fenced = _FENCE.match(content)
    try:
        answer = json.loads(fenced[1] if fenced else content)
    except (ValueError, RecursionError) as error:
        raise Invalid("answer is not JSON", content) from error
    if not isinstance(answer, dict):
        raise Invalid("answer is no JSON object", content)
    return answer


def _caption(value: Any, longest: int) -> str:
    if not isinstance(value, str):
        raise Invalid("caption is no text", str(value))
    if any(unicodedata.category(c) in ("Cc", "Cs") and not c.isspace() for c in value):
        raise Invalid("caption has control characters", repr(value))
    caption = " ".join(value.split())
    if not caption:
        raise Invalid("caption is empty")
    if len(caption) > longest:
        raise Invalid("caption is too long", f"{len(caption)} characters: {caption}")
    return caption


def _phrase(value: Any, caption: str) -> str:
    """The phrase as the caption has it, whole words, whatever its capitals."""
    phrase = " ".join(value.split()) if isinstance(value, str) else ""
    if not phrase:
        raise Invalid("phrase is empty", repr(value))
    found = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", caption, re.IGNORECASE)
    if found is None:
        raise Invalid("phrase is not in the caption", f"{phrase!r} in {caption!r}")
    return found[0]


def _tag(value: Any, row: Row) -> str:
    if value in row.tags or (value == "" and not row.tags):
        return value
    raise Invalid("tag is unknown", f"{value!r}, not one of {', '.join(row.tags) or 'none'}")


def _box(item: dict[str, Any], picture: Picture, units: str) -> tuple[float, float, float, float]:
    given = item.get("box")
    try:
        numbers = [float(given[side]) for side in SIDES]  # type: ignore[index]
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise Invalid("box is not four numbers", str(given)) from error
    sent = (picture.width, picture.height)
    whole = {"pixels": sent, "thousandths": (1000, 1000), "fractions": (1, 1)}[units] * 2
    if not all(0 <= number <= most for number, most in zip(numbers, whole, strict=True)):
        raise Invalid("box is outside of the image", f"{numbers} in {whole[0]} x {whole[1]}")
    left, top, right, bottom = (n / most for n, most in zip(numbers, whole, strict=True))
    if (right - left) * sent[0] < _LEAST_SIDE or (bottom - top) * sent[1] < _LEAST_SIDE:
        raise Invalid("box is empty", str(numbers))
    own = (picture.own_width, picture.own_height)
    return (
        round(left * own[0], 2),
        round(top * own[1], 2),
        round(right * own[0], 2),
        round(bottom * own[1], 2),
    )
