"""Where weights come from: a file, a folder or a hub name, as arrays by name, read lazily."""

from rsvl_jax.weights.sources.lazy import Arrays, Tensor
from rsvl_jax.weights.sources.opening import Source, open_source

__all__ = ["Arrays", "Source", "Tensor", "open_source"]
