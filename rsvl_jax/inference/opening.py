"""From a path to a model in use."""

import os

from rsvl_jax.inference import texts
from rsvl_jax.inference.embedder import BATCH_SIZE, Embedder
from rsvl_jax.weights import imports, methods, runs, store
from rsvl_jax.weights.store import Stored


def load(path: str | os.PathLike, *, batch_size: int = BATCH_SIZE) -> Embedder:
    """A model to embed with.

    path: a directory made by `python -m rsvl_jax.weights import`; a file, folder or hub name that
    it would take; or the work directory of a run of FLAVARS or GRAFT, whose newest whole checkpoint
    is read, and none of its data. batch_size: images (texts, places) at a time, of all devices.

    Raises UserError for what is none of these.
    """
    name = os.path.expanduser(os.fspath(path))
    if runs.is_run(name):
        return _run(name, batch_size)
    return _stored(imports.load(name).stored, batch_size)


def _run(path: str, batch_size: int) -> Embedder:
    found = methods.open_run(path)
    return Embedder(
        found.model,
        found.arrays,
        tokenizer=texts.of_checkpoint(found.tokenizer),
        fingerprint=store.fingerprint(found.arrays),
        batch_size=batch_size,
    )


def _stored(stored: Stored, batch_size: int) -> Embedder:
    return Embedder(
        stored.model,
        stored.arrays,
        tokenizer=texts.of_files(stored.model.tokenizer, stored.tokenizer),
        fingerprint=stored.fingerprint,
        batch_size=batch_size,
    )
