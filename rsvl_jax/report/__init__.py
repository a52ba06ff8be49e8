"""The run report: one HTML file that needs nothing else, and the pictures that go into it.

`python -m rsvl_jax.report --workdir=RUN` writes it again from the files of a run.
"""

from rsvl_jax.report.gather import machine_facts, retrievals, similarity
from rsvl_jax.report.illustrations import (
    CaptionRetrievals,
    Illustrations,
    ImageRetrievals,
    Reconstructions,
    Similarity,
    TileMap,
)
from rsvl_jax.report.page import write

__all__ = [
    "CaptionRetrievals",
    "Illustrations",
    "ImageRetrievals",
    "Reconstructions",
    "Similarity",
    "TileMap",
    "machine_facts",
    "retrievals",
    "similarity",
    "write",
]
