"""The shared core: vision, language and location models for remote sensing, in JAX."""

import importlib
import os
from typing import Any

__version__ = "0.1.0"


def load(path: str | os.PathLike, **options: Any) -> Any:
    """A trained model to embed with, an `rsvl_jax.inference.Embedder`.

    path: weights in any format that can be imported, or the work directory of a run; options and
    errors as of `rsvl_jax.inference.load`, which is imported only here: `import rsvl_jax` alone
    starts nothing.
    """
    return importlib.import_module("rsvl_jax.inference").load(path, **options)
