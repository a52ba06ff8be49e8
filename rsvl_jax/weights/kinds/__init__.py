"""The kinds of model that weights fill: for each, a file with `parts(settings)`."""

import importlib
from collections.abc import Mapping

from rsvl_jax.errors import UserError
from rsvl_jax.models.functional import Make
from rsvl_jax.weights.family import Json

KINDS = ("clip", "flava", "flavars", "vit", "text", "location", "graft", "image_tokenizer")


def parts(kind: str, settings: Json) -> Mapping[str, Make]:
    """Part of the tree -> maker of its module, of a model with these settings (see `Model`).

    Raises UserError for an unknown kind.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind of model {kind!r}: choose one of {', '.join(KINDS)}")
    return importlib.import_module(f"rsvl_jax.weights.kinds.{kind}").parts(settings)
