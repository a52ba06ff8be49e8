"""Rows of a built data set: tiles with captions, and what is known of them as tags."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flavars_jax.ground_captions.rows import Row, Unreadable, tags
from rsvl_jax import datasets
from rsvl_jax.errors import UserError

_LEAST_COVER = 0.05  # share of a tile's pixels from which its land cover is told
# IGBP classes of MCD12C1, as OpenStreetMap would write them.
_COVER = (
    *("water", "evergreen_needleleaf_forest", "evergreen_broadleaf_forest"),
    *("deciduous_needleleaf_forest", "deciduous_broadleaf_forest", "mixed_forest"),
    *("closed_shrubland", "open_shrubland", "woody_savanna", "savanna", "grassland", "wetland"),
    *("cropland", "urban", "cropland_and_natural_vegetation", "snow_and_ice", "barren"),
)


class Records:
    """One split of a data set whose records have images and captions; others raise UserError."""

    def __init__(self, name: str, data_dir: str, split: str):
        self._name, self._data_dir, self._split = name, data_dir, split
        self._source: Sequence[Mapping[str, Any]] = datasets.load(name, data_dir, split)
        if len(self._source) and not {"captions", "image"} <= self._source[0].keys():
            raise UserError(f"--name={name!r}: its records have no images with captions")

    def __iter__(self) -> Iterator[Row | Unreadable]:
        for index in range(len(self._source)):
            yield self._row(index, self._source[index])

    def picture(self, row: Row) -> bytes:
        """The encoded image of the row's record."""
        return self._source[row.image["index"]]["image"]

    def describe(self) -> dict[str, Any]:
        """The data set, by its fingerprint, and the split."""
        manifest = datasets.manifest(self._name, self._data_dir)
        return {
            "name": self._name,
            "data_dir": os.path.abspath(self._data_dir),
            "split": self._split,
            "fingerprint": manifest["fingerprint"],
        }

    def _row(self, index: int, record: Mapping[str, Any]) -> Row | Unreadable:
        if not record["captions"]:
            return Unreadable(record["id"], "caption is missing")
        lon, lat = float(record["lon"]), float(record["lat"])
        placed = np.isfinite(lon) and np.isfinite(lat)
        return Row(
            id=record["id"],
            image={"split": self._split, "index": index},
            caption=record["captions"][0],
            tags=_known(record),
            lon=lon if placed else None,
            lat=lat if placed else None,
            split=self._split,
        )


def _known(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags of a record; of an earth_tile its land cover and places, in the same form."""
    if "landcover" not in record:
        return tags(record.get("tags"))
    shares = zip(_COVER, record["landcover"], strict=True)
    cover = sorted(((s, name) for name, s in shares if s >= _LEAST_COVER), reverse=True)
    places = {"place": record["city"], "country": record["country"], "climate": record["climate"]}
    return (
        *(f"landcover={name}" for _, name in cover),
        *(f"{key}={value}" for key, value in places.items() if value),
    )
