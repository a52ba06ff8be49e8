"""Where tiles are: the place that is nearest in the shared space, and how far off it is."""

from functools import partial

import numpy as np

from rsvl_jax.evaluation import geolocation, scoring
from rsvl_jax.evaluation.bootstrap import Statistic
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.features import encode_locations
from rsvl_jax.evaluation.neighbours import neighbours
from rsvl_jax.evaluation.suite import UNTRAINED, Model, Setting, start_card
from rsvl_jax.evaluation.tiles import Tiles

METRICS: dict[str, Statistic] = {
    f"accuracy@{km}km": partial(geolocation.accuracy, position=place)
    for place, km in enumerate(geolocation.KILOMETRES)
}


def geolocation_cards(setting: Setting, model: Model, untrained: Model | None) -> list[Card]:
    """Shares of the test tiles whose guessed centre lies within some kilometres of their own."""
    test = setting.test
    card = start_card(
        setting,
        model,
        "geolocation",
        "place of a tile among those of the split",
        gallery="centres of all scored tiles",
        similarity="cosine",
        distance="great circle on the sphere of mean radius",
    )
    ours = _tallies(setting, model)
    if ours is None:
        return scoring.not_applicable(card, METRICS, "the objective trains no location encoder")
    theirs = None if untrained is None else _tallies(setting, untrained)
    outcome = scoring.Outcome(
        examples=ours,
        references={} if theirs is None else {UNTRAINED: theirs},
        chance=_chance(test),
        blocks=setting.blocks,
    )
    return scoring.cards(card, METRICS, outcome)


def _tallies(setting: Setting, model: Model) -> np.ndarray | None:
    encode, test = model.encoders.locations, setting.test
    if encode is None or "location_space" not in model.test:
        return None
    gallery = encode_locations(
        encode, lon=test.lon, lat=test.lat, batch_size=setting.batch_size, mesh=setting.mesh
    )
    images = model.test["location_space"]
    nearest = neighbours(images, gallery, k=1, metric="cosine", mesh=setting.mesh)[1][:, 0]
    return geolocation.tallies(_km(test, nearest))


def _km(test: Tiles, guessed: np.ndarray) -> np.ndarray:
    lon, lat = test.lon[guessed], test.lat[guessed]
    return geolocation.distance_km(lon=lon, lat=lat, to_lon=test.lon, to_lat=test.lat)


def _chance(test: Tiles) -> dict[str, float]:
    """Of a random tile of the gallery, over at most a thousand tiles."""
    rows = np.arange(len(test))[:: max(1, len(test) // 1000)]
    totals = sum(
        geolocation.tallies(_km(test, np.full(len(test), row))).sum(axis=0) for row in rows
    )
    return {name: float(metric(np.asarray(totals))) for name, metric in METRICS.items()}
