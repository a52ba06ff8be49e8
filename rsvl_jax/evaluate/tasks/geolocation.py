"""Where images were taken: the place of a gallery that is nearest in the shared space."""

import hashlib
import os
from functools import partial

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluate.subject import Subject
from rsvl_jax.evaluate.suite import Spec
from rsvl_jax.evaluate.tasks import reading
from rsvl_jax.evaluation import geolocation, scoring
from rsvl_jax.evaluation.bootstrap import Statistic, draws_of
from rsvl_jax.evaluation.card import Card
from rsvl_jax.evaluation.features import encode_locations
from rsvl_jax.evaluation.neighbours import neighbours
from rsvl_jax.evaluation_sets import places
from rsvl_jax.evaluation_sets.collection import Collection

METRICS: dict[str, Statistic] = {
    f"accuracy@{km}km": partial(geolocation.accuracy, position=place)
    for place, km in enumerate(geolocation.KILOMETRES)
}
_SAMPLE = 1000  # places of the gallery that chance is taken over


def score(subject: Subject, spec: Spec) -> list[Card]:
    """Options: test (split), gallery (a CSV of lon and lat in the folder of the data, such as
    GeoCLIP's 100,000; the places of the test images themselves)."""
    test = reading.split(spec, "test", "test")
    known = _known(test, spec)
    lon, lat, gallery = _gallery(test, known, spec)
    card = subject.card(
        test,
        "geolocation",
        "place of an image",
        reading.fit(spec),
        gallery=gallery,
        similarity="cosine",
        distance="great circle on the sphere of mean radius",
        without_place=int((~known).sum()),
    )
    seen = subject.features(test, reading.fit(spec))
    encode = subject.encoders.locations
    if encode is None or "location_space" not in seen:
        return scoring.not_applicable(card, METRICS, "the model has no location encoder")
    choice = encode_locations(
        encode, lon=lon, lat=lat, batch_size=subject.batch_size, mesh=subject.mesh
    )
    images = seen["location_space"][known]
    nearest = neighbours(images, choice, k=1, metric="cosine", mesh=subject.mesh)[1][:, 0]
    true = test.lon[known], test.lat[known]  # type: ignore[index]
    outcome = scoring.Outcome(
        examples=_tallies(lon[nearest], lat[nearest], true),
        chance=_chance(lon, lat, true),
        blocks=draws_of(None if test.blocks is None else test.blocks[known], card.seed),
    )
    return scoring.cards(card, METRICS, outcome)


def _known(test: Collection, spec: Spec) -> np.ndarray:
    """Images whose place is known, bool [n]."""
    if test.lon is None or test.lat is None:
        raise UserError(
            f"task {spec.name!r} needs places: put {places.TABLE} (image, lon, lat) into "
            f"{spec.data!r}"
        )
    known = np.isfinite(test.lon) & np.isfinite(test.lat)
    if not known.any():
        raise UserError(
            f"task {spec.name!r}: no image of {test.name} {test.split} is in "
            f"{places.TABLE}, such as {test.ids[0]!r}"
        )
    return known


def _gallery(test: Collection, known: np.ndarray, spec: Spec) -> tuple[np.ndarray, np.ndarray, str]:
    """lon, lat, and what they are."""
    name = spec.options.get("gallery", "")
    if not name:
        assert test.lon is not None and test.lat is not None
        return test.lon[known], test.lat[known], "places of the scored images"
    path = os.path.join(spec.data, name)
    _, lon, lat = places.read(path)
    digest = hashlib.sha256(np.stack([lon, lat]).tobytes()).hexdigest()[:12]
    return lon, lat, f"{len(lon)} places of {name}, {digest}"


def _tallies(lon: np.ndarray, lat: np.ndarray, true: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    km = geolocation.distance_km(lon=lon, lat=lat, to_lon=true[0], to_lat=true[1])
    return geolocation.tallies(km)


def _chance(
    lon: np.ndarray, lat: np.ndarray, true: tuple[np.ndarray, np.ndarray]
) -> dict[str, float]:
    """Of a random place of the gallery."""
    rows = range(0, len(lon), max(1, len(lon) // _SAMPLE))
    totals = sum(_tallies(lon[row], lat[row], true).sum(axis=0) for row in rows)
    return {name: float(metric(np.asarray(totals))) for name, metric in METRICS.items()}
