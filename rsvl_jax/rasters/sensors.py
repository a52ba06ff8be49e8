"""What files of known sensors hold: the order of their bands, and which values are black and white.

Sources. Sentinel-2: digital numbers are 10,000 times reflectance, plus 1,000 from processing
baseline 04.00 on (ESA, "Introduction of additional Radiometric Offset in PB04.00 products":
RADIO_ADD_OFFSET and BOA_ADD_OFFSET of -1000, QUANTIFICATION_VALUE of 10000; since 2022-01-25, and
on older data that were processed again). Landsat 8 and 9, Collection 2 Level 2: reflectance is
0.0000275 times the number, less 0.2; 0 is no data (USGS, "How do I use a scale factor with Landsat
Level-2 science products?"). NAIP: 8 bits, red, green, blue, near infrared (USDA). White is a
reflectance of 0.3, as in most true-colour pictures of land; clouds and snow are brighter.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rsvl_jax.errors import UserError

WHITE = 0.3  # reflectance
_OFFSET, _OFFSET_SINCE = 1000, 400  # of Sentinel-2, from this processing baseline on
_BASELINE = re.compile(r"_N(\d{2})\.?(\d{2})_")
_S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08")
_LANDSAT = tuple(f"SR_B{number}" for number in range(1, 8))


@dataclass(frozen=True)
class Sensor:
    """Attributes:
    rgb: names of the red, green and blue band.
    orders: number of bands in a file -> their names in order, where files do not name them.
    factor, offset: reflectance = factor * value + offset; None: 8-bit values as they are.
    gsd: metres a pixel of the red band.
    """

    rgb: tuple[str, str, str]
    orders: Mapping[int, tuple[str, ...]]
    factor: float | None
    offset: float
    gsd: float

    def bands(self, count: int, names: tuple[str | None, ...] = ()) -> tuple[int, ...]:
        """Numbers from 1 of red, green and blue in a file of `count` bands that go by `names`.

        Raises UserError for a count that is not known, where names do not help.
        """
        given = [str(name or "").upper() for name in names]
        if all(colour in given for colour in self.rgb):
            return tuple(given.index(colour) + 1 for colour in self.rgb)
        if count not in self.orders:
            known = ", ".join(map(str, sorted(self.orders)))
            raise UserError(
                f"a file of {count} bands without their names: {known} are known; give --bands"
            )
        return tuple(self.orders[count].index(colour) + 1 for colour in self.rgb)

    def scale(self, added: int = 0) -> tuple[float, float] | None:
        """Values shown black and white; `added`: what was added to all of them."""
        if self.factor is None:
            return None
        black = -self.offset / self.factor + added
        return black, black + WHITE / self.factor


SENSORS = {
    # 13 bands: Level 1C, in ESA's order or with B8A last, as in EuroSAT; 12: Level 2A, without
    # B10, as in S2-100K; 4: the bands of 10 m. Red, green and blue stand at the same places.
    "sentinel2": Sensor(
        rgb=("B04", "B03", "B02"),
        orders={
            13: (*_S2, "B8A", "B09", "B10", "B11", "B12"),
            12: (*_S2, "B8A", "B09", "B11", "B12"),
            4: ("B02", "B03", "B04", "B08"),
            3: ("B04", "B03", "B02"),
        },
        factor=1e-4,
        offset=0.0,
        gsd=10.0,
    ),
    **{
        name: Sensor(
            rgb=("SR_B4", "SR_B3", "SR_B2"),
            orders={7: _LANDSAT, 3: ("SR_B4", "SR_B3", "SR_B2")},
            factor=0.0000275,
            offset=-0.2,
            gsd=30.0,
        )
        for name in ("landsat8", "landsat9")
    },
    "naip": Sensor(
        rgb=("R", "G", "B"),
        orders={4: ("R", "G", "B", "N"), 3: ("R", "G", "B")},
        factor=None,
        offset=0.0,
        gsd=1.0,
    ),
}


def sentinel2_offset(name: str, tags: Mapping[str, str]) -> int | None:
    """What was added to the values of a Sentinel-2 file, by its processing baseline; None: unknown.

    name: of the file or product, "S2B_MSIL2A_20220830T103629_N0400_R008_...". tags: of the file.
    """
    told = tags.get("PROCESSING_BASELINE", "")
    digits = re.sub(r"\D", "", told)
    if not digits and (match := _BASELINE.search(name)):
        digits = match[1] + match[2]
    if not digits:
        return None
    return _OFFSET if int(digits) >= _OFFSET_SINCE else 0
