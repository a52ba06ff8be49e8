"""Runs of the methods as models: each method says itself what its checkpoints hold.

The core does not import the methods. They are looked up by name, in a module `opening` of theirs
with a function `open_run(path) -> Opened | None`, None for a run that is not theirs.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights.family import Json, Model
from rsvl_jax.weights.sources import Arrays

METHODS = ("flavars_jax", "graft_jax")


@dataclass(frozen=True)
class Opened:
    """The model of a run, without its data.

    Attributes:
      model: what the arrays fill.
      arrays: by "part/path"; there may be more than the model's.
      tokenizer: bytes of the texts' tokenizer, see `tokenizer_files.of_model`; b"" without one.
      config: resolved, of the run.
      manifest: of its data.
      step: of the checkpoint.
      folder: where its scores.json and report are, once it is finished.
      revision: of the code that wrote the checkpoint.
      logit_scale: logarithm of what multiplies cosines, where it is fixed.
      untrained: () -> arrays of the same model at initialisation, which scores stand beside.
    """

    model: Model
    arrays: Arrays
    tokenizer: bytes
    config: Json
    manifest: Json
    step: int
    folder: str
    revision: str
    logit_scale: float | None = None
    untrained: Callable[[], Mapping[str, np.ndarray]] | None = None


def open_run(path: str) -> Opened:
    """The newest whole checkpoint of a work directory.

    Raises UserError where there is none, or none of the methods knows it.
    """
    for method in METHODS:
        found = importlib.import_module(f"{method}.opening").open_run(path)
        if found is not None:
            return found
    raise UserError(f"{path!r} holds no run of {' or '.join(METHODS)}: give another directory")
