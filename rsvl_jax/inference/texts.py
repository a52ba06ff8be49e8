"""The tokenizer of a model, opened when the first text comes."""

import os
from collections.abc import Callable, Mapping

from rsvl_jax.data.tokenizer_files import KINDS, Tokenizer, of_model, open_tokenizer
from rsvl_jax.errors import UserError
from rsvl_jax.training import resume, saved
from rsvl_jax.weights import imports, runs
from rsvl_jax.weights.family import Json

SENTENCEPIECE = "tokenizer.model"
Open = Callable[[], Tokenizer]


def of_checkpoint(model: bytes) -> Open:
    """That which the checkpoint of a run carries."""
    if not model:
        return lambda: _refuse("the checkpoint carries no tokenizer")
    return lambda: of_model(model)


def of_source(name: str) -> Open | None:
    """That of a run or of anything that can be imported, whose arrays are not read; None where it
    reads no texts."""
    if runs.is_run(os.path.expanduser(name)):
        model = resume.unpack(saved.metadata(os.path.expanduser(name))).get(SENTENCEPIECE, b"")
        return of_checkpoint(model) if model else None
    described, files = imports.tokenizer_of(name)
    return of_files(described, files) if described else None


def of_files(described: Json, files: Mapping[str, str]) -> Open:
    """That of imported weights: from their files, or CLIP's from an installed package.

    described: `Model.tokenizer`; files: paths by name, in one folder.
    """
    kind = described.get("kind", "")
    if files:
        folder = os.path.dirname(next(iter(files.values())))
        # A SentencePiece model tells best what it is; other files may need to be told.
        chosen = kind if kind in KINDS and SENTENCEPIECE not in files else ""
        return lambda: open_tokenizer(folder, chosen)
    if kind == "clip":
        return lambda: open_tokenizer(kind=kind)
    return lambda: _refuse("the files of its tokenizer are not beside these weights")


def _refuse(why: str) -> Tokenizer:
    raise UserError(f"{why}: import them from a folder that has both, to embed texts")
