"""What a GRAFT run shows of itself in its report."""

import numpy as np

from graft_jax.evaluate import Bench
from graft_jax.inputs import Inputs
from graft_jax.settings import IMAGE, PIXEL
from graft_jax.towers import TextImageModel
from rsvl_jax import report
from rsvl_jax.evaluation import retrieval
from rsvl_jax.evaluation.vectors import normalize

GLOSSARY = {
    IMAGE: "a tile against the embeddings of its photos",
    PIXEL: "the patch a photo lies in, against that photo's embedding",
}
_TOP = 5


def illustrate(inputs: Inputs, bench: Bench | None, model: TextImageModel) -> report.Illustrations:
    """Where the tiles lie, and the tiles of `bench` nearest to each class prompt."""
    embedded = "zoom pairs, not ground photos: coarse tiles of 30 km a pixel, fine views of 7.4 km"
    facts = {"method": "GRAFT", **report.machine_facts(), "curves": "those of the first seed"}
    return report.Illustrations(
        tiles=_places(inputs),
        text_to_image=None if bench is None else _by_prompt(bench, model),
        facts=facts if bench is None else facts | {"data": embedded},
        glossary=GLOSSARY,
    )


def _places(inputs: Inputs) -> report.TileMap:
    lon, lat, split = [], [], []
    for name in (name for name, count in inputs.manifest["splits"].items() if count):
        source = inputs.split(name)
        records = [source[row] for row in range(len(source))]
        lon += [record["lon"] for record in records]
        lat += [record["lat"] for record in records]
        split += [name] * len(records)
    west, _, east, _ = inputs.train[0]["footprint"]
    return report.TileMap(np.array(lon), np.array(lat), split, float((east - west) % 360))


def _by_prompt(bench: Bench, model: TextImageModel) -> report.ImageRetrievals:
    """The tiles with the highest cosine to each class vector; right is the label."""
    scores = bench.vectors @ normalize(bench.embed(model)).T
    relevant = np.arange(len(bench.classes))[:, None] == bench.test.labels
    present = np.flatnonzero(relevant.any(axis=1))
    scores, relevant = scores[present], relevant[present]
    best = np.argsort(-scores, axis=1, kind="stable")[:, :_TOP]
    return report.ImageRetrievals(
        queries=[bench.classes[row] for row in present],
        images=bench.test.images[best],
        right=np.take_along_axis(relevant, best, axis=1),
        ranks=retrieval.ranks_from_scores(scores, relevant),
        gallery=len(bench.test),
    )
