"""Fields of text as the values of a row, whatever layout they stand in."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rsvl_jax.datasets.image_text.reader import Box, Drop

_MISSING = ("", "nan", "none", "null", "na", "n/a")
_SPLITS = {"val": "validation", "valid": "validation", "dev": "validation"}


def number(text: str, what: str) -> float | None:
    """A number, None where the field is empty or says that there is none. Raises Drop."""
    if text.strip().lower() in _MISSING:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise Drop(f"{what} is not a number", repr(text)[:80]) from error


def box(text: str, what: str) -> Box | None:
    """Four numbers: "W,S,E,N", with brackets or blanks as they may be; None where it is empty."""
    if text.strip().lower() in _MISSING:
        return None
    try:
        west, south, east, north = map(float, text.strip("()[] ").replace(",", " ").split())
    except ValueError as error:
        raise Drop(f"{what} is not four numbers", repr(text)[:80]) from error
    return west, south, east, north


def regions(phrases: str, boxes: str) -> dict[str, Any]:
    """`phrases` and `boxes` of a row from JSON lists: of texts, and of [xmin, ymin, xmax, ymax]."""
    if not boxes.strip():
        return {}
    try:
        found = [tuple(map(float, corners)) for corners in json.loads(boxes)]
        words = [str(word) for word in json.loads(phrases)]
        if any(len(corners) != 4 for corners in found):
            raise ValueError("a box without four numbers")
    except (ValueError, TypeError) as error:
        raise Drop("boxes are not JSON lists of phrases and pixels", str(error)[:80]) from error
    return {"phrases": words, "boxes": found}


def split(name: str) -> str:
    """The name of a split as it is written here: "val" and the like are "validation"."""
    plain = name.strip().lower()
    return _SPLITS.get(plain, plain)


def of_mapping(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a row from the JSON object that stands beside an image; what it lacks is left out.

    Keys: caption or captions (text or list), lon, lat, box or bbox, time, gsd, tags, phrases,
    boxes, split. Raises Drop for values of other kinds.
    """
    found: dict[str, Any] = {}
    captions = next((given[k] for k in ("captions", "caption", "text") if k in given), None)
    if captions is not None:
        found["captions"] = [captions] if isinstance(captions, str) else _list(captions)
    for name, keys in _NUMBERS.items():
        value = next((given[k] for k in keys if given.get(k) is not None), None)
        if value is not None:
            found[name] = number(str(value), name)
    place = given.get("box", given.get("bbox"))
    if place is not None:
        found["box"] = box(place if isinstance(place, str) else json.dumps(place), "box")
    if given.get("boxes"):
        found |= regions(json.dumps(given.get("phrases", [])), json.dumps(given["boxes"]))
    if given.get("tags"):
        found["tags"] = given["tags"]
    found |= {name: str(given[name]) for name in ("time",) if given.get(name)}
    return found | ({"split": split(str(given["split"]))} if given.get("split") else {})


_NUMBERS = {"lon": ("lon", "longitude", "lng"), "lat": ("lat", "latitude"), "gsd": ("gsd",)}


def _list(value: Any) -> Sequence[str]:
    if not isinstance(value, list):
        raise Drop("captions are not a list of texts", type(value).__name__)
    return [str(caption) for caption in value]
