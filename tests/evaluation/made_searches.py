"""Searches whose ties are exact, in sizes that do not divide by any number of devices."""

import numpy as np

from rsvl_jax.evaluation import caption_retrieval, neighbours


def searches(mesh):
    """Nearest rows, picked in both ways, and ranks of captions, on a mesh (None: one device)."""
    rng = np.random.default_rng(7)
    gallery = rng.integers(-2, 3, (103, 4)).astype(np.float32)
    queries = rng.integers(-2, 3, (37, 4)).astype(np.float32)
    found = {
        pick: neighbours.neighbours(queries, gallery, k=6, metric="l2", mesh=mesh, pick=pick)[1]
        for pick in ("host", "device")
    }
    right = rng.integers(0, 103, (37, 3))
    return found | {"ranks": caption_retrieval.ranks(queries + 0.1, gallery, right, mesh)}
