"""Using trained models: images, texts and places to embeddings, NumPy in and NumPy out."""

from rsvl_jax.inference.embedder import Embedder
from rsvl_jax.inference.opening import load

__all__ = ["Embedder", "load"]
