"""One module a layout of downloads; each holds a `Reader`."""

import importlib

from rsvl_jax.datasets.image_text.reader import Reader

# layout -> module and class, imported where it is asked for: some need packages of their own
_READERS = {
    "skyscript": ("skyscript", "SkyScript"),
    "csv": ("table", "Table"),
    "folder": ("folder", "Folder"),
    "webdataset": ("webdataset", "WebDataset"),
    "karpathy": ("karpathy", "Karpathy"),
    "parquet": ("parquet", "Parquet"),
    "geotiff": ("geotiff", "GeoTiff"),
    "s2_100k": ("s2_100k", "S2100K"),
    "images": ("unimodal", "Images"),
    "texts": ("unimodal", "Texts"),
    "grounded": ("grounded", "Grounded"),
}
LAYOUTS = tuple(_READERS)


def find(layout: str) -> type[Reader]:
    """The reader of a layout, one of LAYOUTS."""
    module, name = _READERS[layout]
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
