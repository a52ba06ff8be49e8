"""Captions of a tile: what covers the ground, the water, the climate, the place; all of it true.

Five sentences of different detail, their wording chosen by a hash of the position. The first is
the fullest: retrieval scores look at it. Words follow what can be seen: where the image shows
snow the caption says snow, whatever the land-cover map holds below it.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from rsvl_jax.datasets.earth_tiles import places
from rsvl_jax.datasets.earth_tiles.classes import Kind
from rsvl_jax.datasets.earth_tiles.scene import Scene

CLIMATES = {
    "Af": "wet tropical",
    "Am": "tropical monsoon",
    "As": "tropical wet and dry",
    "Aw": "tropical wet and dry",
    "BSh": "hot semi-arid",
    "BSk": "cold semi-arid",
    "BWh": "hot arid",
    "BWk": "cold arid",
    "Cfa": "humid subtropical",
    "Cfb": "mild oceanic",
    "Cfc": "cool oceanic",
    "Csa": "hot-summer Mediterranean",
    "Csb": "warm-summer Mediterranean",
    "Csc": "cool-summer Mediterranean",
    "Cwa": "subtropical dry-winter",
    "Cwb": "highland dry-winter",
    "Cwc": "cool highland dry-winter",
    "Dfa": "hot-summer continental",
    "Dfb": "warm-summer continental",
    "Dfc": "subarctic",
    "Dfd": "severe subarctic",
    "Dsa": "dry-summer continental",
    "Dsb": "dry-summer continental",
    "Dsc": "dry-summer subarctic",
    "Dsd": "dry-summer subarctic",
    "Dwa": "dry-winter continental",
    "Dwb": "dry-winter continental",
    "Dwc": "dry-winter subarctic",
    "Dwd": "dry-winter subarctic",
    "EF": "polar ice-cap",
    "ET": "polar",
}
_VIEWS = ("a satellite image of", "satellite view of", "a picture from space of")
_MUCH, _SOME, _TRACE = 0.25, 0.12, 0.04
_COASTAL, _MOSTLY_WATER = 0.05, 0.6
LAKE_PIXELS = 12


def captions(scene: Scene) -> list[str]:
    """Five different sentences about a scene, the fullest first."""
    ground, water, climate = cover(scene), _water(scene), _in_climate(scene)
    if scene.shares[Kind.WATER] == 1:
        full = short = water
    elif scene.shares[Kind.WATER] >= _MOSTLY_WATER:
        full, short = f"{water} with {ground} on its shores", water
    else:
        full, short = _join(ground, water), ground
    view = _VIEWS[scene.pick("view", len(_VIEWS))]
    sentences = [
        _join(full, _place(scene)) + climate,
        f"{view} {short}",
        _join(full, f"in {scene.continent}" if scene.continent else "") + climate,
        _layout(scene),
        f"{_join(short, _country(scene))}, {_position(scene)}",
    ]
    return [_sentence(text) for text in sentences]


def noun(scene: Scene, kind: Kind, pick: int = 0) -> str:
    """What to call a kind of cover in this scene; `pick` chooses among its true names."""
    names = _names(scene, kind)
    return names[pick % len(names)]


def cover(scene: Scene) -> str:
    """The one or two main covers of the land: "mostly cropland", "grassland with some snow"."""
    first, second = np.argsort(-scene.land_shares, kind="stable")[:2]
    main = noun(scene, Kind(first), scene.pick("first", 6))
    share, other = scene.land_shares[first], scene.land_shares[second]
    if other < _SOME:
        text = main if share >= 0.8 else f"mostly {main}"
    else:
        word = "and" if other >= _MUCH else "with some"
        text = f"{main} {word} {noun(scene, Kind(second), scene.pick('second', 6))}"
    snow = scene.land_shares[Kind.SNOW]
    told = first == Kind.SNOW or (second == Kind.SNOW and snow >= _SOME)
    if told or snow < _TRACE:
        return text
    return f"{text} {'and' if ' with ' in text else 'with'} patches of snow"


def components(mask: np.ndarray, pixels: int) -> list[tuple[int, int, int, int, int]]:
    """Connected parts of a mask of at least `pixels`, the largest first: (x0, y0, x1, y1, area).

    x1 and y1 lie one past the last pixel.
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    parts = [(x, y, x + w, y + h, area) for x, y, w, h, area in stats[1:].tolist()]
    return sorted((p for p in parts if p[4] >= pixels), key=lambda p: -p[4])


def where(xs: np.ndarray, ys: np.ndarray, size: int) -> str:
    """Where in the image pixels lie on average: "north-west", ..., or "" for around the middle."""
    east, north = (np.mean(xs) + 0.5) / size - 0.5, 0.5 - (np.mean(ys) + 0.5) / size
    return places.compass(east, north) if max(abs(east), abs(north)) >= 0.09 else ""


def _names(scene: Scene, kind: Kind) -> Sequence[str]:
    pole, climate = abs(scene.centre[1]), scene.climate
    match kind:
        case Kind.FOREST:
            return (_forest(scene), _forest(scene), "conifer or deciduous forest")
        case Kind.EVERGREEN:
            rainforest = climate in ("Af", "Am") and pole < 24
            other = "tropical rainforest" if rainforest else "evergreen forest"
            return ("evergreen broadleaf forest", other)
        case Kind.SHRUBLAND:
            return ("shrubland", "low shrubland")
        case Kind.WOODLAND:
            return ("open woodland", "sparse open woodland")
        case Kind.SAVANNA:
            return ("savanna", "lightly wooded savanna")
        case Kind.GRASSLAND:
            return ("grassland", "steppe grassland" if climate[:2] == "BS" else "open grassland")
        case Kind.TUNDRA:
            return ("tundra", "northern tundra")
        case Kind.CROPLAND:
            return ("cropland", "farmland" if scene.igbp[12] > scene.igbp[14] else "mixed cropland")
        case Kind.SNOW:
            lasting = (scene.landcover[scene.cover == Kind.SNOW] == 15).mean() > 0.5
            return ("snow and ice",) if lasting else ("snow", "snow cover")
        case Kind.DESERT:
            arid = climate.startswith("B")
            return ("desert", "barren desert") if arid else ("bare ground", "barren land")
        case Kind.WETLAND:
            return ("wetland",)
        case Kind.URBAN:
            return ("built-up land",)
        case Kind.WATER:
            return ("open water",)
    raise ValueError(kind)


def _forest(scene: Scene) -> str:
    igbp = scene.landcover[scene.cover == Kind.FOREST]
    most = int(np.bincount(igbp, minlength=6)[:6].argmax())
    names = {1: "conifer forest", 3: "deciduous conifer forest", 4: "deciduous forest"}
    return names.get(most, "mixed forest")


def _water(scene: Scene) -> str:
    """The water of a scene, "" where there is hardly any."""
    sea = scene.sea.mean()
    lakes = components(scene.lake > 0, LAKE_PIXELS)
    if scene.shares[Kind.WATER] >= _MOSTLY_WATER:
        return "open water of the sea" if sea > 0.3 else "open water of a large lake"
    beside = "on the coast" if sea >= _COASTAL else ""
    if not lakes:
        return beside
    few = "a lake" if len(lakes) == 1 else "lakes"
    return f"{beside} with {few}" if beside else f"beside {few}"


def _place(scene: Scene) -> str:
    nearby = scene.nearby
    if nearby.km > places.NEAR_KM:
        return _country(scene)
    return ", ".join(filter(None, [f"near {nearby.city.name}", scene.city_country]))


def _position(scene: Scene) -> str:
    city = scene.nearby.city
    abroad = city.code not in {country.code for country in scene.countries}
    name = f"{city.name} ({scene.city_country})" if abroad and scene.city_country else city.name
    if scene.nearby.km < 25:
        return f"around {name}"
    return f"about {round(scene.nearby.km, -1):.0f} km {scene.nearby.way} of {name}"


def _country(scene: Scene) -> str:
    names = " and ".join(country.prose for country in scene.countries)
    at_sea = scene.sea.mean() >= _MOSTLY_WATER
    return f"{'off' if at_sea else 'in'} {names}" if names else ""


def _in_climate(scene: Scene) -> str:
    return f", in a {CLIMATES[scene.climate]} climate" if scene.climate else ""


def _layout(scene: Scene) -> str:
    """Which cover lies where: "sea in the west, desert in the east"."""
    parts = [("sea", scene.sea), ("a lake", scene.lake > 0)]
    order = np.argsort(-scene.shares, kind="stable")
    kinds = [Kind(k) for k in order if k != Kind.WATER and scene.shares[k] >= _SOME][:3]
    parts += [(noun(scene, kind), scene.cover == kind) for kind in kinds]
    seen = []
    for name, mask in parts:
        if mask.mean() >= (0.02 if name == "a lake" else _SOME):
            ys, xs = np.nonzero(mask)
            way = where(xs, ys, scene.size)
            seen.append(f"{name} in the {way}" if way else name)
    if not seen:
        return f"small patches of {cover(scene)}"
    if len(seen) > 1 or " in the " in seen[0]:
        return ", ".join(seen)
    share = max(mask.mean() for _, mask in parts)
    return f"{seen[0]} in {'most' if share > 0.5 else 'parts'} of the image"


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
