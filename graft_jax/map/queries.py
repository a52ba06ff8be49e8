"""From what people ask for to unit vectors."""

from collections.abc import Sequence

import numpy as np

from graft_jax.towers import TextImageModel
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import zeroshot

BARE = (zeroshot.CLASS_SLOT,)  # the query as it is, as GRAFT's own demo asks


def check(queries: Sequence[str]) -> None:
    """Raises UserError for no query, an empty one, or one that is given twice."""
    if not queries:
        raise UserError("no query: add --query=TEXT, for example --query=farmland")
    for number, query in enumerate(queries):
        if not query.strip():
            raise UserError(f"query {query!r} is empty: say what to look for, such as 'farmland'")
        if query in queries[:number]:
            raise UserError(f"query {query!r} is given twice: leave one out")


def vectors(
    model: TextImageModel, queries: Sequence[str], templates: Sequence[str] = BARE
) -> np.ndarray:
    """One unit vector a query, float32 [Q, E]: the mean over templates ("{c}" for the query)."""
    check(queries)
    return zeroshot.class_vectors(lambda texts: model.texts(texts), list(queries), templates)
