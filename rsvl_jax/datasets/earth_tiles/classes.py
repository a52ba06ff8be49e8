"""What lies on the ground: IGBP classes, the kinds of cover that can be seen, and the class names.

The rasters name 17 IGBP classes, from one year of satellite data. Seen in one mosaic at 7.4 km some
of them look the same, some are too rare to score, and snow hides what lies under it. So captions,
phrases and labels speak of `Kind`s: IGBP classes merged, split by climate where a name would be
false (a "savanna" at 62 N is open woodland), and overruled where the image shows snow.
"""

from enum import IntEnum

import numpy as np


class Kind(IntEnum):
    """Visible cover of a pixel; the kinds up to DESERT are the zero-shot classes, in order."""

    WATER = 0
    FOREST = 1
    EVERGREEN = 2
    SHRUBLAND = 3
    WOODLAND = 4
    SAVANNA = 5
    GRASSLAND = 6
    TUNDRA = 7
    CROPLAND = 8
    SNOW = 9
    DESERT = 10
    WETLAND = 11
    URBAN = 12


# manifest["classes"]: label i of a record is CLASSES[i]. Wetland and built-up land dominate less
# than ten tiles each, which no score can stand on: such tiles have the label AMBIGUOUS.
CLASSES = (
    "open water",
    "conifer or deciduous forest",
    "evergreen broadleaf forest",
    "shrubland",
    "open woodland",
    "savanna",
    "grassland",
    "tundra",
    "cropland",
    "snow and ice",
    "desert",
)
AMBIGUOUS = -1

# manifest["prompts"]: zero-shot templates, "{c}" stands for the class name.
PROMPTS = (
    "a satellite image of {c}.",
    "satellite view of {c}.",
    "a picture from space of {c}.",
    "mostly {c}.",
)

# A tile has a label when this share of it is water, or else this share of its land is one kind.
WATER_SHARE = 0.6
LAND_SHARE = 0.4

KIND_OF_IGBP = np.array([0, 1, 2, 1, 1, 1, 3, 3, 4, 5, 6, 11, 8, 12, 8, 9, 10], np.uint8)

KOPPEN = (
    *("", "Af", "Am", "As", "Aw", "BSh", "BSk", "BWh", "BWk", "Cfa", "Cfb", "Cfc", "Csa", "Csb"),
    *("Csc", "Cwa", "Cwb", "Cwc", "Dfa", "Dfb", "Dfc", "Dfd", "Dsa", "Dsb", "Dsc", "Dsd", "Dwa"),
    *("Dwb", "Dwc", "Dwd", "EF", "ET"),
)
_D = np.array([code.startswith("D") for code in KOPPEN])
_E = np.array([code.startswith("E") for code in KOPPEN])
_ET = np.array([code == "ET" for code in KOPPEN])

_OPEN_LAND = (6, 7, 9, 10, 16)
_SNOW_BRIGHTNESS = 115
_SNOW_SPREAD = 40


def visible_snow(image: np.ndarray, landcover: np.ndarray, climate: np.ndarray) -> np.ndarray:
    """Where land is white with snow, bool [H, W].

    White alone would take salt flats and bright sand for snow, so the climate must be continental
    or polar, or the land-cover map must say permanent snow and ice.

    image: RGB uint8 [H, W, 3] · landcover: IGBP 0-16 · climate: index into KOPPEN.
    """
    darkest, brightest = image.min(-1), image.max(-1)
    white = (darkest >= _SNOW_BRIGHTNESS) & (brightest - darkest <= _SNOW_SPREAD)
    return white & (landcover > 0) & ((_D | _E)[climate] | (landcover == 15))


def visible_cover(
    image: np.ndarray, landcover: np.ndarray, climate: np.ndarray, latitude: np.ndarray
) -> np.ndarray:
    """The `Kind` of each pixel, uint8 [H, W]; arguments as in `visible_snow`, latitude [H, 1]."""
    cover = KIND_OF_IGBP[landcover]
    poleward = np.abs(latitude)
    # MODIS calls "savanna" any land with 10-30 % trees; the word is true of low latitudes only.
    cover[(landcover == 9) & (poleward > 35)] = Kind.WOODLAND
    # High mountains of low latitudes have a polar climate too, but are grassland or bare ground.
    treeless = (_ET[climate] & (poleward >= 50)) | (_D[climate] & (poleward >= 65))
    cover[treeless & np.isin(landcover, _OPEN_LAND)] = Kind.TUNDRA
    cover[visible_snow(image, landcover, climate)] = Kind.SNOW
    return cover


def labels(shares: np.ndarray) -> np.ndarray:
    """Zero-shot labels int64 [M] from the shares of the kinds over a tile, float [M, kinds].

    Index into CLASSES, or AMBIGUOUS where no kind holds WATER_SHARE or LAND_SHARE.
    """
    water = shares[:, Kind.WATER]
    land = shares[:, 1:] / np.maximum(1 - water, 1e-6)[:, None]
    largest = land.argmax(1) + 1
    clear = (land.max(1) >= LAND_SHARE) & (largest < len(CLASSES))
    found = np.where(clear, largest, AMBIGUOUS)
    return np.where(water >= WATER_SHARE, Kind.WATER, found)
