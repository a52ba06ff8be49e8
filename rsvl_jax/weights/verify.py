"""Whether a directory of ours is what a source holds, bit by bit."""

from collections.abc import Mapping

import numpy as np

from rsvl_jax.weights import families, imports, store
from rsvl_jax.weights.account import shape_text
from rsvl_jax.weights.sources import open_source


def differences(folder: str, against: str) -> tuple[int, list[str]]:
    """How many arrays were compared, and a line for each difference; none: all bits are equal.

    The source is loaded through the family that the directory names, if it looks like that, else
    through its own: what was exported can be compared with what it came from. Raises UserError for
    either where it cannot be read.
    """
    ours = store.read(folder)
    theirs = imports.load(against, family=_family(ours.family, against), allow_nonfinite=True)
    found = compare(ours.arrays, theirs.stored.arrays)
    if store.fingerprint(ours.arrays) != ours.fingerprint:
        found.append("the arrays are not those of the fingerprint in config.json")
    return len(ours.arrays), found


def _family(name: str, against: str) -> str | None:
    if imports.is_ours(against):
        return None
    layouts = [arrays.shapes for _, arrays in imports.unwrapped(open_source(against).arrays)]
    known = families.find(name)
    others = [f for f in families.FAMILIES if any(map(f.recognises, layouts))]
    return name if known in others or not others else None


def compare(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> list[str]:
    """A line for each array that is missing on one side, or differs in type, shape or bits."""
    lines = [f"{name}: in the source alone" for name in theirs if name not in ours]
    for name in ours:
        if name not in theirs:
            lines.append(f"{name}: in the directory alone")
        elif text := _difference(ours[name], theirs[name]):
            lines.append(f"{name}: {text}")
    return sorted(lines)


def _difference(a: np.ndarray, b: np.ndarray) -> str:
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype} {shape_text(a.shape)} here, {b.dtype} {shape_text(b.shape)} there"
    bits = [np.ascontiguousarray(x).reshape(-1).view(np.uint8).reshape(x.size, -1) for x in (a, b)]
    unequal = int((bits[0] != bits[1]).any(axis=1).sum())
    return f"{unequal} of {a.size} numbers differ" if unequal else ""
