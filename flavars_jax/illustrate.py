"""What a FLAVARS run shows of itself in its report."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from flavars_jax.inputs import Inputs
from flavars_jax.objective import FlavarsObjective
from rsvl_jax import report
from rsvl_jax.data.pairs import SampleTransform, Source
from rsvl_jax.data.transforms import decode, resize
from rsvl_jax.evaluation import features
from rsvl_jax.evaluation.features import Encoders

Tree = Any

# The city of the similarity maps: far from any coast of another continent, and well known.
CITY, CITY_LON, CITY_LAT = "Cairo", 31.24, 30.04
_RECONSTRUCTIONS = 8
_MOST_PLACES, _MOST_RETRIEVED = 20_000, 2_000  # of a split; more is not seen on a page
GLOSSARY = {
    "mim": "hidden patches, from the image alone",
    "mlm": "hidden words, from the text alone",
    "mmm_image": "hidden patches, from image and text",
    "mmm_text": "hidden words, from image and text",
    "itm": "does the text belong to the image?",
    "image_text": "image-text contrast",
    "image_location": "image-location contrast",
    "text_location": "text-location contrast",
}


def illustrate(
    *,
    inputs: Inputs,
    objective: FlavarsObjective,
    encoders: Encoders,
    params: Tree,
    frozen: Tree,
    transform: SampleTransform,
    mesh: Mesh,
    batch_size: int,
) -> report.Illustrations:
    """Pictures of the test split, and of every split the places."""
    test = inputs.split("test")
    to_text, to_image = _retrievals(test, encoders, mesh, batch_size)
    return report.Illustrations(
        tiles=_places(inputs),
        reconstructions=_reconstructions(test, objective, params, frozen, transform),
        image_to_text=to_text,
        text_to_image=to_image,
        similarities=_similarities(encoders, mesh),
        facts={"method": "FLAVARS", **report.machine_facts()},
        glossary={name: GLOSSARY[name] for name in objective.weights},
    )


def _places(inputs: Inputs) -> report.TileMap | None:
    lon, lat, split = [], [], []
    for name in ("train", "validation", "test"):
        source = inputs.split(name)
        for row in _spaced(len(source), _MOST_PLACES):
            record = source[row]
            if not math.isnan(record["lon"]):
                lon.append(record["lon"])
                lat.append(record["lat"])
                split.append(name)
    if not lon:
        return None
    first = inputs.train[0]
    west, _, east, _ = first["bbox"] if "bbox" in first else np.zeros(4)  # else points
    return report.TileMap(np.array(lon), np.array(lat), split, float((east - west) % 360))


def _spaced(length: int, most: int) -> list[int]:
    """All rows, or so many of them, evenly spaced."""
    count = min(length, most)
    return [row * length // count for row in range(count)]


def _reconstructions(
    test: Source,
    objective: FlavarsObjective,
    params: Tree,
    frozen: Tree,
    transform: SampleTransform,
) -> report.Reconstructions | None:
    if not objective.reconstructs or not len(test):
        return None
    rows = np.linspace(0, len(test) - 1, _RECONSTRUCTIONS).astype(int)
    records = [test[int(row)] for row in rows]
    plain = transform.for_evaluation()
    samples = [plain(record, np.random.default_rng(i)) for i, record in enumerate(records)]
    batch = {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}
    filled = jax.device_get(jax.jit(objective.reconstruct)(params, frozen, batch))
    pictures = {name: np.round(255 * np.asarray(v)).astype(np.uint8) for name, v in filled.items()}
    return report.Reconstructions(**pictures, names=[r["captions"][0] for r in records])


def _retrievals(
    test: Source, encoders: Encoders, mesh: Mesh, batch_size: int
) -> tuple[report.CaptionRetrievals | None, report.ImageRetrievals | None]:
    if encoders.texts is None or not len(test):
        return None, None
    records = [test[row] for row in _spaced(len(test), _MOST_RETRIEVED)]
    captions = [record["captions"][0] for record in records]
    images = _alike([decode(record["image"]) for record in records], encoders.image_size)
    found = features.extract(
        encoders.images, images, batch_size=batch_size, mesh=mesh, limits={"patches": 0}
    )
    texts = features.encode_texts(encoders.texts, captions, batch_size=batch_size, mesh=mesh)
    return report.retrievals(
        images=images,
        captions=captions,
        image_vectors=found["text_space"],
        text_vectors=texts,
    )


def _alike(images: list[np.ndarray], size: int | None) -> np.ndarray:
    """uint8 [n, H, W, 3]; resized to squares where their sizes differ."""
    if len({image.shape for image in images}) > 1:
        assert size is not None  # FLAVARS' encoders have one
        images = [resize(image, (size, size)) for image in images]
    return np.stack(images)


def _similarities(encoders: Encoders, mesh: Mesh) -> tuple[report.Similarity, ...]:
    if encoders.locations is None:
        return ()
    locations = encoders.locations

    def embed(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        return features.encode_locations(locations, lon=lon, lat=lat, batch_size=4096, mesh=mesh)

    return (report.similarity(embed, name=CITY, lon=CITY_LON, lat=CITY_LAT),)
