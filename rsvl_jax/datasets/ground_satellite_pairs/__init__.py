"""Satellite tiles with the ground photos taken on them, at known pixels: `write` and `load`."""

from rsvl_jax.datasets.ground_satellite_pairs.record import Pairs, parse
from rsvl_jax.datasets.ground_satellite_pairs.shards import publish, write
from rsvl_jax.datasets.ground_satellite_pairs.store import load

__all__ = ["Pairs", "load", "parse", "publish", "write"]
