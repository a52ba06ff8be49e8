"""Illustrations from embeddings."""

import numpy as np
import pytest
from synthetic_run import illustrations, pictures

from rsvl_jax import report
from rsvl_jax.evaluation import retrieval
from rsvl_jax.report import illustrations as kept


def embeddings(n=40, seed=0):
    rng = np.random.default_rng(seed)
    captions = [f"caption {i % 25}" for i in range(n)]
    texts = rng.normal(size=(25, 8))[np.arange(n) % 25]
    return captions, texts, texts + 1.5 * rng.normal(size=(n, 8))


def test_retrievals_agree_with_the_ranks_of_the_scores():
    captions, texts, images = embeddings()
    shown = pictures(40, 4, 4)
    to_text, to_image = report.retrievals(
        images=shown, captions=captions, image_vectors=images, text_vectors=texts, shown=3
    )
    relevant = retrieval.identical(captions, captions)
    for found, queries, gallery in ((to_text, images, texts), (to_image, texts, images)):
        ranks = retrieval.ranks(queries, gallery, relevant)
        first = ranks[np.unique(captions, return_index=True)[1]]
        assert found.ranks.tolist() == [*np.sort(first)[:3], *np.sort(first)[-3:]]
        assert found.gallery == 40
        assert np.array_equal(found.right[:, 0], found.ranks == 1)
    assert to_text.right.tolist() == (to_text.captions == to_text.truth[:, None]).tolist()


def test_a_caption_is_shown_once_as_query_and_once_as_answer():
    captions, texts, images = embeddings()
    to_text, to_image = report.retrievals(
        images=pictures(40, 4, 4), captions=captions, image_vectors=images, text_vectors=texts
    )
    assert len(set(to_text.truth.tolist())) == len(set(to_image.queries.tolist())) == 8
    assert all(len(set(row)) == 5 for row in to_text.captions.tolist())


def test_shown_images_are_those_of_highest_cosine():
    captions, texts, images = embeddings()
    shown = pictures(40, 4, 4)
    _, to_image = report.retrievals(
        images=shown, captions=captions, image_vectors=images, text_vectors=5 * texts, shown=2
    )
    unit = images / np.linalg.norm(images, axis=1, keepdims=True)
    for query, answers in zip(to_image.queries, to_image.images, strict=True):
        order = np.argsort(-(unit @ texts[captions.index(query)]))[:5]
        assert np.array_equal(answers, shown[order])


def test_similarity_grid_runs_from_north_west_and_peaks_at_the_city():
    def on_sphere(lon, lat):
        east, north = np.radians(lon), np.radians(lat)
        return np.stack(
            [np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=1
        )

    found = report.similarity(on_sphere, name="Quito", lon=-78.5, lat=-0.2, shape=(36, 72))
    row, column = np.unravel_index(found.grid.argmax(), found.grid.shape)
    assert abs(90 - (row + 0.5) * 5 - found.lat) <= 2.5
    assert abs(-180 + (column + 0.5) * 5 - found.lon) <= 2.5
    assert found.grid.max() == pytest.approx(1, abs=2e-3)
    assert found.grid.min() == pytest.approx(-1, abs=2e-3)


def test_illustrations_read_back_as_they_were_saved(tmp_path):
    path = str(tmp_path / "illustrations.npz")
    given = illustrations()
    kept.save(path, given)
    found = kept.load(path)
    assert found.facts == given.facts and found.glossary == given.glossary
    assert np.array_equal(found.reconstructions.filled, given.reconstructions.filled)
    assert found.image_to_text.captions.tolist() == given.image_to_text.captions
    assert found.text_to_image.gallery == 99 and found.tiles.size_degrees == 4.0
    assert found.similarities[0].name == given.similarities[0].name
    assert kept.load(str(tmp_path / "none.npz")) == report.Illustrations()
    kept.save(path, report.Illustrations())
    assert kept.load(path) == report.Illustrations()
