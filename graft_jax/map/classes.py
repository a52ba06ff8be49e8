"""Classes of a map: the most similar query at each pixel, their names and their colours."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps

from graft_jax.map.geotiff import NO_CLASS

NONE = "none of these"
_FEW = 10
_NONE_COLOUR = (64, 64, 64, 255)
Colours = dict[int, tuple[int, int, int, int]]


def most_similar(scores: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """Cosines [Q, H, W] -> the number of the highest, uint8 [H, W]; the first of equal ones.

    Q where the highest is below the threshold; NO_CLASS where cosines are NaN.
    """
    unseen = np.isnan(scores[0])
    seen = np.where(unseen, 0, scores)
    best = seen.argmax(axis=0)
    if threshold is not None:
        best = np.where(seen.max(axis=0) < threshold, len(scores), best)
    return np.where(unseen, NO_CLASS, best).astype(np.uint8)


def names(queries: Sequence[str], threshold: float | None) -> tuple[str, ...]:
    """What the classes of `most_similar` are called, in order."""
    return (*queries, NONE) if threshold is not None else tuple(queries)


def colours(queries: Sequence[str], threshold: float | None) -> Colours:
    """Class -> RGBA of 0 to 255, well apart for few classes; NO_CLASS is transparent."""
    count = len(queries)
    if count <= _FEW:
        found = [colormaps["tab10"](number) for number in range(count)]
    else:
        found = [colormaps["gist_ncar"]((number + 0.5) / count) for number in range(count)]
    table = {n: tuple(round(255 * part) for part in colour) for n, colour in enumerate(found)}
    if threshold is not None:
        table[count] = _NONE_COLOUR
    return table | {NO_CLASS: (0, 0, 0, 0)}  # type: ignore[return-value]
