"""What captions, phrases and places say of known spots of the Earth, and of every small tile."""

import re

import cv2
import numpy as np
import pytest

from rsvl_jax.data.transforms import decode
from rsvl_jax.datasets.earth_tiles import captions, classes, countries, places, rasters
from rsvl_jax.datasets.earth_tiles.phrases import phrases

WATER_WORDS = r"\b(sea|coast|lake|lakes|island|water)\b"


def words(scene):
    return " ".join(captions.captions(scene)).lower()


def box_of(scene, phrase):
    names, boxes = phrases(scene)
    return dict(zip(names, boxes.tolist(), strict=True))[phrase]


def country_at(world, *, lon, lat):
    number = world.country[int((90 - lat) * 15), int((lon + 180) * 15)]
    return world.names[number - 1] if number else None


def test_sahara(look_at):
    scene = look_at(lon=5.0, lat=25.5)
    assert re.search(r"\bdesert\b", words(scene))
    assert "hot arid climate" in words(scene)
    assert "Algeria" in captions.captions(scene)[0]
    assert not re.search(WATER_WORDS + r"|snow|grass|forest", words(scene))
    assert phrases(scene)[0] == ["desert"]


def test_amazon(look_at):
    scene = look_at(lon=-67.0, lat=-4.5)
    assert re.search("evergreen broadleaf forest|tropical rainforest", words(scene))
    assert "Brazil" in captions.captions(scene)[4]
    assert scene.continent == "South America"
    assert not re.search("sea|coast|snow|desert|cropland", words(scene))


def test_greenland(look_at):
    scene = look_at(lon=-42.0, lat=68.0)
    assert captions.captions(scene)[0].startswith("Snow and ice in Greenland")
    assert scene.continent == "North America"
    assert box_of(scene, "snow and ice") == [0, 0, 64, 64]


def test_nile_delta(look_at):
    scene = look_at(lon=31.0, lat=30.6)
    assert {c.name for c in scene.countries} == {"Egypt"}
    assert re.search("desert", words(scene))
    assert "sea in the north" in words(scene)
    x0, y0, x1, y1 = box_of(scene, "cropland")
    tanta = ((31.0 - 28.87) * 15, (32.73 - 30.79) * 15)
    assert x0 < tanta[0] < x1
    assert y0 < tanta[1] < y1
    x0, y0, x1, y1 = box_of(scene, "the city of Cairo")
    assert x0 <= (31.25 - 28.87) * 15 <= x1
    assert y0 <= (32.73 - 30.05) * 15 <= y1


def test_great_lakes_are_lakes(look_at):
    scene = look_at(lon=-86.5, lat=43.5)
    assert "lake" in words(scene)
    assert not re.search(r"\b(sea|coast|island)\b", words(scene))
    assert any(name.startswith("a lake") for name in phrases(scene)[0])


@pytest.mark.parametrize(
    ("lon", "lat", "kind"),
    [
        (34.0, 43.0, "sea"),  # the Black Sea
        (-75.5, 35.43, "sea"),  # Pamlico Sound: inside a country, but open to the sea
        (108.2, 53.5, "lake"),  # Lake Baikal
        (33.0, -1.0, "lake"),  # Lake Victoria
        (-100.0, 40.0, "land"),
    ],
)
def test_sea_lake_or_land(world, lon, lat, kind):
    row, col = int((90 - lat) * 15), int((lon + 180) * 15)
    assert bool(world.lake[row, col]) == (kind == "lake")
    assert bool(world.sea[row, col]) == (kind == "sea")


def test_wetland_is_not_called_water(look_at):
    scene = look_at(lon=70.1, lat=62.5)  # mires of Western Siberia
    assert (scene.landcover == 11).mean() > 0.1
    assert scene.shares[classes.Kind.WATER] == (scene.landcover == 0).mean()
    assert not re.search(r"\b(sea|coast|open water)\b", words(scene))
    assert "wetland" in " ".join(phrases(scene)[0])


def test_salt_flat_is_not_snow_but_siberia_is(look_at):
    assert "snow" not in words(look_at(lon=-67.5, lat=-20.2))  # Salar de Uyuni
    assert "snow" in words(look_at(lon=100.0, lat=72.0))
    assert "snow" in words(look_at(lon=86.0, lat=28.2))  # Himalaya


def test_no_savanna_far_from_the_tropics(world):
    rows = np.flatnonzero((world.cover == classes.Kind.SAVANNA).any(1))
    assert np.abs(rasters.latitudes()[rows]).max() <= 35


def test_no_tundra_at_low_latitudes(world):
    rows = np.flatnonzero((world.cover == classes.Kind.TUNDRA).any(1))
    assert np.abs(rasters.latitudes()[rows]).min() >= 50


@pytest.mark.parametrize(
    ("lon", "lat", "name", "continent"),
    [
        (2.35, 48.85, "France", "Europe"),
        (-52.6, 4.0, "France", "South America"),
        (21.2, 54.7, "Russia", "Europe"),
        (105.0, 60.0, "Russia", "Asia"),
        (-175.0, 66.0, "Russia", "Asia"),
        (-150.0, 65.0, "United States of America", "North America"),
        (-155.5, 19.6, "United States of America", "Oceania"),
        (28.3, -29.6, "Lesotho", "Africa"),
        (34.7, 31.2, "Israel", "Asia"),
        (9.1, 39.9, "Italy", "Europe"),
        (-42.0, 72.0, "Greenland", "North America"),
        (141.5, -6.0, "Papua New Guinea", "Oceania"),
        (140.0, -4.0, "Indonesia", "Asia"),
        (8.7, 12.1, "Nigeria", "Africa"),
    ],
)
def test_country_of_known_points(world, lon, lat, name, continent):
    country = country_at(world, lon=lon, lat=lat)
    assert country.name == name
    assert countries.continent(country, lon=lon, lat=lat) == continent


@pytest.mark.parametrize(("lon", "lat"), [(-30.0, 40.0), (-90.0, 25.0), (50.5, 42.0)])
def test_no_country_at_sea(world, lon, lat):
    assert country_at(world, lon=lon, lat=lat) is None


def test_country_comes_from_polygons_not_from_the_nearest_city(look_at):
    scene = look_at(lon=142.2, lat=-13.5)  # Cape York: the nearest city is in Papua New Guinea
    assert scene.nearby.city.code == "PG"
    assert scene.countries[0].name == "Australia"
    assert "(Papua New Guinea)" in captions.captions(scene)[4]


def test_articles():
    assert countries.Country("Netherlands", "NL", "Europe").prose == "the Netherlands"
    assert countries.Country("Solomon Islands", "SB", "Oceania").prose == "the Solomon Islands"
    assert countries.Country("Peru", "PE", "South America").prose == "Peru"


def test_distance_and_direction():
    paris = places.City("Paris", 2.35, 48.85, 2_000_000, "FR")
    km = places.distance_km(paris, lon=-0.13, lat=51.51)
    assert km == pytest.approx(344, abs=4)
    assert places.direction(paris, lon=-0.13, lat=51.51) == "north-west"
    fiji = places.City("Suva", 178.44, -18.14, 90_000, "FJ")
    assert places.direction(fiji, lon=-178.0, lat=-18.14) == "east"


def test_suburbs_with_borrowed_populations_are_left_out():
    names = {city.name for city in places.load().cities}
    assert "New South Memphis" not in names
    assert {"Memphis", "Paris", "Lagos", "Cairo"} <= names


def test_cities_of_a_tile_across_the_antimeridian(look_at):
    scene = look_at(lon=179.9, lat=-17.5)
    names = [city.name for city, _, _ in scene.cities]
    assert "Suva" in names
    assert all(0 <= x < 64 and 0 <= y < 64 for _, x, y in scene.cities)


def mask_of(record):
    return cv2.imdecode(np.frombuffer(record["mask"], np.uint8), cv2.IMREAD_UNCHANGED)


CLAIMS = {
    r"\b(sea|coast|lakes?|water)\b": (0,),
    r"cropland|farmland": (12, 14),
    r"desert|bare ground|barren": (16,),
    r"wetland": (11,),
    r"evergreen (broadleaf )?forest|rainforest": (2,),
    r"conifer|deciduous|mixed forest": (1, 3, 4, 5),
    r"savanna": (9,),
    r"open woodland": (8, 9),
    r"grassland": (10,),
    r"shrubland": (6, 7),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_of_every_caption_is_in_the_mask(records, claim):
    told = 0
    for record in sum(records.values(), []):
        shares = np.bincount(mask_of(record).ravel(), minlength=17) / 64**2
        land = 1 - shares[0]
        least = 0.002 if 0 in CLAIMS[claim] else 0.1 * land
        for caption in record["captions"]:
            if re.search(claim, caption.lower()):
                told += 1
                assert shares[list(CLAIMS[claim])].sum() >= least, (record["id"], caption)
    assert told


def test_snow_is_told_where_it_is_seen_and_only_there(records):
    for record in sum(records.values(), []):
        image = decode(record["image"]).astype(int)
        mask = mask_of(record)
        white = (image.min(-1) > 110) & (image.max(-1) - image.min(-1) < 45) & (mask > 0)
        share = white.sum() / max((mask > 0).sum(), 1)
        told = "snow" in record["captions"][0].lower()
        if told:
            assert share > 0.03, record["id"]
        if share > 0.5 and abs(record["lat"]) > 55:
            assert told, record["id"]


def test_climate_is_told_only_where_it_is_known(records):
    for record in sum(records.values(), []):
        assert record["climate"] in classes.KOPPEN
        told = "climate" in " ".join(record["captions"])
        assert told == bool(record["climate"])


def test_boxes_hold_what_their_phrases_name(records):
    for record in sum(records.values(), []):
        mask = mask_of(record)
        for phrase, (x0, y0, x1, y1) in zip(record["phrases"], record["boxes"], strict=True):
            inside = mask[int(y0) : int(y1), int(x0) : int(x1)]
            if phrase.startswith(("a lake", "the sea")):
                assert (inside == 0).sum() >= 12, (record["id"], phrase)
            if phrase.startswith("cropland"):
                assert np.isin(inside, (12, 14)).sum() >= 80, (record["id"], phrase)
            if phrase.startswith("desert"):
                assert (inside == 16).sum() >= 80, (record["id"], phrase)
