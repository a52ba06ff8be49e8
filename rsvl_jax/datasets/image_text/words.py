"""Captions as they are stored: one line, no control characters, none empty, none twice."""

import re
from collections import Counter
from collections.abc import Sequence

from rsvl_jax.datasets.image_text.reader import Drop

_BLANKS = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
_NOT_TEXT = re.compile(r"[\ud800-\udfff]")  # what is left of bytes that are not in the encoding


def clean(captions: Sequence[str], limit: int, changes: Counter[str]) -> list[str]:
    """The captions to store, in order; what was done to them is counted in `changes`.

    limit: characters. Raises Drop where none is left.
    """
    kept: dict[str, None] = {}
    reasons: list[str] = []
    for caption in captions:
        text, reason = _clean(str(caption), limit, changes)
        if reason:
            reasons.append(reason)
        else:
            kept[text] = None
    if not kept:
        raise Drop(reasons[0] if reasons else "caption is missing")
    changes.update(f"left out: {reason}" for reason in reasons)
    return list(kept)


def _clean(caption: str, limit: int, changes: Counter[str]) -> tuple[str, str]:
    """The caption, and why it cannot be kept or ""."""
    if _NOT_TEXT.search(caption):
        return "", "caption is not in the encoding"
    text = _CONTROL.sub("", caption)
    if text != caption:
        changes["control characters taken out of a caption"] += 1
    text = _BLANKS.sub(" ", text).strip()
    if not text:
        return "", "caption is empty"
    if len(text) > limit:
        return "", "caption is too long"
    return text, ""
