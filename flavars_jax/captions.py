"""The tokenizer that a FLAVARS run reads captions with.

Word embeddings are of no use with the ids of another vocabulary: a text tower that starts from
weights brings its tokenizer along.
"""

import fnmatch

from ml_collections import ConfigDict

from rsvl_jax.data.tokenizer import Tokenizer
from rsvl_jax.data.tokenizer_files import of_model, open_tokenizer
from rsvl_jax.errors import UserError
from rsvl_jax.inference import texts
from rsvl_jax.training import resume, saved

FILE = "tokenizer.model"  # in checkpoints and data sets
_WORDS = "text/word_embed"


def tokenizer(config: ConfigDict, workdir: str) -> Tokenizer | None:
    """That of `data.tokenizer`, or of the weights that the text tower starts from; None for the
    data set's own.

    Weights whose word embeddings `init_from.expect` lets differ leave the data set's in place. A
    run that goes on has that of its checkpoint: the sources need not be there any more. Raises
    UserError for weights that bring no tokenizer.
    """
    key, source = _source(config)
    if not source:
        return None
    if kept := _kept(workdir):
        return of_model(kept)
    if key == "data.tokenizer":
        return open_tokenizer(source)
    found = texts.of_source(source)
    try:
        return found() if found else None
    except UserError as error:
        raise UserError(
            f"{key}={source!r} has word embeddings but no tokenizer ({error}): set data.tokenizer "
            f"to the folder of its files, or add {_WORDS!r} to init_from.expect to train others"
        ) from error


def _source(config: ConfigDict) -> tuple[str, str]:
    """The key that names where the tokenizer is from, and its value; "" for nowhere."""
    given = {"data.tokenizer": config.data.get("tokenizer")}
    start = config.get("init_from", {})
    if not any(fnmatch.fnmatchcase(_WORDS, each) for each in start.get("expect") or ()):
        given |= {f"init_from.{part}": start.get(part) for part in ("text", "model")}
    key, value = next(((key, value) for key, value in given.items() if value), ("", ""))
    return key, value.partition("#")[0] if isinstance(value, str) else ""


def _kept(workdir: str) -> bytes:
    try:
        return resume.unpack(saved.metadata(workdir)).get(FILE, b"")
    except UserError:  # nothing to go on from
        return b""
