"""The suite of image-text data sets, on synthetic pairs whose right scores are known."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_tiles import BLIND, MANIFEST, SEEING, SIZE, records

from rsvl_jax.evaluation import choice, earth_tiles, image_text
from rsvl_jax.evaluation.features import Encoders
from rsvl_jax.parallel.mesh import make_mesh

COUNTS = {"train": {"located": 0}}
PLAIN = {**MANIFEST, "layout": "folder", "classes": [], "prompts": [], "has": COUNTS}
LABELLED = {**PLAIN, **{key: MANIFEST[key] for key in ("classes", "prompts")}}
KEYS = ("id", "image", "captions", "lon", "lat", "label")


def pairs(n, seed, **changes):
    """Records as image-text data sets have them: no masks, no land cover, no blocks."""
    return [{**{key: r[key] for key in KEYS}, **changes} for r in records(n, seed)]


def run(test, manifest=PLAIN, encoders=SEEING, untrained=None, **changes):
    options = {"batch_size": 32, "mesh": make_mesh(), "seed": 0, **changes}
    train = pairs(80, seed=1)
    found = image_text.evaluate(encoders, untrained, train, test, manifest, **options)
    return {card.key: card for card in found}


def test_the_data_set_chooses_its_suite():
    assert choice.suite_of(PLAIN) is image_text.evaluate
    assert choice.suite_of(MANIFEST) is earth_tiles.evaluate


def test_pairs_without_labels_and_places_are_scored_by_retrieval_alone():
    found = run(pairs(40, seed=2, label=-1, lon=np.nan, lat=np.nan), untrained=BLIND)
    assert {key.split("/")[0] for key in found} == {"retrieval"}
    assert not any("location" in key for key in found)
    card = found["retrieval/image_to_text/recall@1"]
    assert card.value > 85 and card.reference("untrained encoder").value < 60
    assert card.interval is not None and "40 pairs" in card.interval_method
    assert card.n == 40


def test_labels_give_neighbours_and_zero_shot_without_land_cover():
    found = run(pairs(60, seed=2), LABELLED)
    for key in ("knn/l2_k5/mean/accuracy", "zeroshot/balanced_accuracy"):
        assert found[key].value > 90
        assert "land cover" not in found[key].title + found[key].note
    assert not any("pure" in key for key in found)
    assert found["knn/l2_k5/mean/accuracy"].n == 54  # the labelled ones


def test_places_are_scored_where_there_are_any():
    test = pairs(40, seed=2, label=-1)
    for record in test[::4]:
        record["lon"] = record["lat"] = np.nan
    order = iter(range(100))

    def places(*, lon, lat):
        assert not np.isnan(lon).any()
        return jnp.stack([jnp.asarray(lon), jnp.asarray(lat), jnp.ones(len(lon))], 1)

    def images(batch):
        seen = SEEING.images(batch)
        rows = [next(order) for _ in batch]
        at = [(test[r]["lon"], test[r]["lat"], 1.0) if r < 40 else (0.0, 0.0, 1.0) for r in rows]
        return {**seen, "location_space": jnp.nan_to_num(jnp.array(at, jnp.float32))}

    found = run(test, encoders=Encoders(images, SEEING.texts, places))
    card = found["retrieval/image_to_location/recall@1"]
    assert card.n == 30 and card.value == 100
    assert "cells of one degree" in found["retrieval/image_to_text/recall@1"].interval_method


def test_pictures_of_every_size_are_resized_to_the_encoders():
    test = pairs(6, seed=2)
    big = image_text.transforms.resize(np.zeros((8, 8, 3), np.uint8), (40, 24))
    from synthetic_tiles import png

    test[3]["image"] = png(big)
    found = run(test, encoders=replace(SEEING, image_size=SIZE), quick=True)
    assert found["retrieval/image_to_text/recall@1"].n == 6
    assert found["retrieval/image_to_text/recall@1"].interval is None


def test_the_most_are_evenly_spaced(monkeypatch):
    monkeypatch.setattr(image_text, "MOST_QUICK", 10)
    test = pairs(40, seed=2)
    read = image_text._read(test, 10, None)
    assert read.ids.tolist() == [record["id"] for record in test[::4]]
    assert run(test, quick=True)["retrieval/image_to_text/recall@1"].n == 10


@pytest.mark.parametrize("quick", [True, False])
def test_an_empty_split_says_so(quick):
    (card,) = run([], quick=quick).values()
    assert card.value is None and "no record in split 'test'" in card.note
