"""What is known of one tile: windows of the rasters, shares, places. Captions are made of it."""

import functools
from dataclasses import dataclass

import numpy as np

from rsvl_jax.datasets.earth_tiles import countries, places, tiles
from rsvl_jax.datasets.earth_tiles.classes import KOPPEN, Kind
from rsvl_jax.datasets.earth_tiles.countries import Country
from rsvl_jax.datasets.earth_tiles.places import Gazetteer, Nearby
from rsvl_jax.datasets.earth_tiles.rasters import Rasters, window

_CLIMATE_SHARE = 0.5
_SECOND_COUNTRY_SHARE = 0.25


@dataclass(frozen=True)
class Scene:
    """One tile. Windows are [size, size]; see `rasters.Rasters` for what they hold."""

    row: int
    col: int
    image: np.ndarray
    landcover: np.ndarray
    cover: np.ndarray
    lake: np.ndarray
    sea: np.ndarray
    climate: str
    countries: tuple[Country, ...]
    continent: str
    nearby: Nearby
    city_country: str
    cities: tuple[tuple[places.City, float, float], ...]

    @property
    def size(self) -> int:
        """Side of the tile, pixels."""
        return len(self.landcover)

    @functools.cached_property
    def centre(self) -> tuple[float, float]:
        """Longitude and latitude, degrees."""
        return tiles.centre(self.row, self.col, self.size)

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """Share of each `Kind` over the whole tile, float64 [kinds]."""
        return np.bincount(self.cover.ravel(), minlength=len(Kind)) / self.cover.size

    @functools.cached_property
    def land_shares(self) -> np.ndarray:
        """Share of each `Kind` over the land of the tile, 0 for water."""
        land = self.shares.copy()
        land[Kind.WATER] = 0
        return land / max(land.sum(), 1e-9)

    @functools.cached_property
    def igbp(self) -> np.ndarray:
        """Share of each IGBP class over the whole tile, float32 [17]."""
        counts = np.bincount(self.landcover.ravel(), minlength=17)
        return (counts / self.landcover.size).astype(np.float32)

    def pick(self, salt: str, count: int) -> int:
        """A number below `count`, fixed by the position of the tile and `salt`."""
        here = tiles.scramble(np.array([self.row]), np.array([self.col]))[0]
        mixed = int(here) ^ int.from_bytes(salt.encode()[:8].ljust(8, b"."), "big")
        return mixed * 0x9E3779B97F4A7C15 % 2**64 * count >> 64


def look(
    rasters: Rasters, gazetteer: Gazetteer, row: int, col: int, size: int = tiles.SIZE
) -> Scene:
    """Collects what is known of the tile of `size` pixels with its top left at (row, col)."""
    lon, lat = tiles.centre(row, col, size)
    landcover = window(rasters.landcover, row, col, size)
    here = _countries(rasters, window(rasters.country, row, col, size))
    nearby = gazetteer.nearby({country.code for country in here}, lon=lon, lat=lat)
    return Scene(
        row=row,
        col=col,
        image=window(rasters.image, row, col, size),
        landcover=landcover,
        cover=window(rasters.cover, row, col, size),
        lake=window(rasters.lake, row, col, size),
        sea=window(rasters.sea, row, col, size),
        climate=_climate(window(rasters.climate, row, col, size)[landcover > 0]),
        countries=here,
        continent=countries.continent(here[0], lon=lon, lat=lat) if here else "",
        nearby=nearby,
        city_country=rasters.prose.get(nearby.city.code)
        or gazetteer.country_name(nearby.city.code),
        cities=tuple(gazetteer.in_tile(row, col, size)),
    )


def _countries(rasters: Rasters, country: np.ndarray) -> tuple[Country, ...]:
    """The country with most of the tile, and a second one if it has a good part of it."""
    counts = np.bincount(country.ravel(), minlength=len(rasters.names) + 1)
    counts[0] = 0
    first, second = np.argsort(-counts, kind="stable")[:2]
    if not counts[first]:
        return ()
    shared = counts[second] >= _SECOND_COUNTRY_SHARE * counts.sum()
    return tuple(rasters.names[i - 1] for i in ([first, second] if shared else [first]))


def _climate(climate: np.ndarray) -> str:
    """The Koppen code of at least half of the land, or ""."""
    counts = np.bincount(climate, minlength=len(KOPPEN))
    counts[0] = 0
    code = int(counts.argmax())
    return KOPPEN[code] if counts[code] >= _CLIMATE_SHARE * len(climate) else ""
