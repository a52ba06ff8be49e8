"""From a path to a model in use."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rsvl_jax.inference import texts
from rsvl_jax.inference.embedder import BATCH_SIZE, Embedder
from rsvl_jax.inference.texts import Open
from rsvl_jax.weights import imports, methods, runs, store
from rsvl_jax.weights.family import Model
from rsvl_jax.weights.methods import Opened
from rsvl_jax.weights.store import Stored


@dataclass(frozen=True)
class Found:
    """A model and its arrays on the host.

    Attributes:
      arrays: by "part/path" · tokenizer: opened when the first text comes, see `texts`.
      fingerprint: of the arrays · run: what the run says of it, None for imported weights.
    """

    model: Model
    arrays: Mapping[str, np.ndarray]
    tokenizer: Open
    fingerprint: str
    run: Opened | None = None


def find(path: str | os.PathLike) -> Found:
    """The model at a path, see `load`."""
    name = os.path.expanduser(os.fspath(path))
    return _of_run(methods.open_run(name)) if runs.is_run(name) else _of(imports.load(name).stored)


def _of_run(run: Opened) -> Found:
    tokenizer, fingerprint = texts.of_checkpoint(run.tokenizer), store.fingerprint(run.arrays)
    return Found(run.model, run.arrays, tokenizer, fingerprint, run)


def _of(stored: Stored) -> Found:
    tokenizer = texts.of_files(stored.model.tokenizer, stored.tokenizer)
    return Found(stored.model, stored.arrays, tokenizer, stored.fingerprint)


def load(path: str | os.PathLike, *, batch_size: int = BATCH_SIZE) -> Embedder:
    """A model to embed with.

    path: a directory made by `python -m rsvl_jax.weights import`; a file, folder or hub name that
    it would take; or the work directory of a run of FLAVARS or GRAFT, whose newest whole checkpoint
    is read, and none of its data. batch_size: images (texts, places) at a time, of all devices.

    Raises UserError for what is none of these.
    """
    found = find(path)
    return Embedder(
        found.model,
        found.arrays,
        tokenizer=found.tokenizer,
        fingerprint=found.fingerprint,
        batch_size=batch_size,
    )
