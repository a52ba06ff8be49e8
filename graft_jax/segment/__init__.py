"""Open-vocabulary segmentation: which of several texts each pixel of an image is most similar to.

`segment` labels an image in memory; `python -m graft_jax.segment` pictures and GeoTIFFs.
"""

from graft_jax.segment.labels import Segmentation, segment

__all__ = ["Segmentation", "segment"]
