"""Data sets on disk: `ensure` builds one when it is missing, `load` opens a split of it."""

from rsvl_jax.datasets.store import artifact, ensure, load, manifest

__all__ = ["artifact", "ensure", "load", "manifest"]
