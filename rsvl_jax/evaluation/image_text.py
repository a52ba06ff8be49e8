"""The suite of image-text data sets of any origin: what they have is what is scored.

Protocol, as the cards repeat it:
- Pairs: all of the split, or MOST of them, evenly spaced. Images are decoded and resized to the
  encoder's size, the aspect not kept.
- Image-text retrieval uses the FIRST caption of each pair; every pair whose first caption is the
  same string is a right answer. Image-location retrieval scores the pairs that have a place.
- kNN and zero-shot classification score the labelled pairs of a data set with labels, kNN from at
  most MOST_TRAIN training pairs; zero-shot prompts are those of the manifest.
- Intervals resample cells of one degree; pairs one by one where fewer than half have a place.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rsvl_jax.data import transforms
from rsvl_jax.data.pairs import Source
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import knn, scoring
from rsvl_jax.evaluation.bootstrap import Blocks
from rsvl_jax.evaluation.card import Card, Provenance
from rsvl_jax.evaluation.features import Encoders, extract
from rsvl_jax.evaluation.land_cover_tasks import POOLINGS, knn_cards, zeroshot_cards
from rsvl_jax.evaluation.retrieval_tasks import location_cards, text_cards
from rsvl_jax.evaluation.suite import Model, Setting
from rsvl_jax.evaluation.tiles import Tiles

MOST, MOST_QUICK = 10_000, 512
MOST_TRAIN, MOST_TRAIN_QUICK = 20_000, 1024
_KNN = {"l2_k5": knn.L2_5, "cosine_k20": knn.COSINE_20}
_NONE = np.zeros(0)


class Pictures:
    """Images of some records, decoded when they are asked for: uint8 [size, size, 3]."""

    def __init__(self, source: Source, rows: np.ndarray, size: int | None):
        """size: None keeps each as it is."""
        self._source, self._rows, self._size = source, rows, size

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        record = self._source[int(self._rows[index])]
        try:
            image = transforms.decode(record["image"])
        except UserError as error:
            raise UserError(f"record {record['id']!r}: {error}") from error
        if self._size is None:
            return image
        return transforms.resize(image, (self._size, self._size))


def evaluate(
    encoders: Encoders,
    untrained: Encoders | None,
    train_source: Source,
    test_source: Source,
    manifest: Mapping[str, Any],
    *,
    batch_size: int,
    mesh: Mesh,
    seed: int,
    quick: bool = False,
    split: str = "test",
    provenance: Provenance | None = None,
) -> list[Card]:
    """Scores a model on an image-text data set; arguments as `earth_tiles.evaluate`.

    quick: fewer pairs, kNN (L2, mean pooling) alone, no intervals, no reference but chance. A
    split without records gives one card that says so.
    """
    card = _blank_card(manifest, split, seed, provenance or Provenance())
    if not len(test_source):
        blank = replace(card, task="retrieval/image_text", title="image text")
        return scoring.not_applicable(blank, ["mean_recall"], f"no record in split {split!r}")
    test = _read(test_source, MOST_QUICK if quick else MOST, encoders.image_size)
    card = replace(card, split_fingerprint=test.fingerprint(), n=len(test))
    classes = list(manifest.get("classes", ()))
    train = None
    if classes and (test.labels >= 0).any():
        most = MOST_TRAIN_QUICK if quick else MOST_TRAIN
        train = _read(train_source, most, encoders.image_size)
    setting = Setting(
        train=test if train is None else train,
        test=test,
        classes=classes,
        templates=list(manifest.get("prompts", ())),
        pixel_classes=(),
        blocks=None if quick else _blocks(test, seed),
        card=card,
        reference_features=None,
        batch_size=batch_size,
        mesh=mesh,
        topic="classes",
        note="",
    )
    model = _encode(setting, encoders, train, "encoding")
    bare = None
    if untrained is not None and not quick:
        bare = _encode(setting, untrained, train, "encoding, untrained")
    found = [*text_cards(setting, model, bare), *_location_cards(setting, model, bare)]
    return found if train is None else found + _class_cards(setting, model, bare, quick)


def _class_cards(setting: Setting, model: Model, bare: Model | None, quick: bool) -> list[Card]:
    poolings = ["mean"] if quick else [name for name in POOLINGS if name in model.test]
    protocols = {"l2_k5": _KNN["l2_k5"]} if quick else _KNN
    if not (setting.train.labels >= 0).any():
        return zeroshot_cards(setting, model, bare)
    return [
        *knn_cards(setting, model, bare, protocols, poolings),
        *zeroshot_cards(setting, model, bare),
    ]


def _location_cards(setting: Setting, model: Model, bare: Model | None) -> list[Card]:
    """Of the pairs that have a place; none where no pair has one."""
    rows = np.flatnonzero(~np.isnan(setting.test.lon))
    if not len(rows):
        return []
    test = replace(
        setting.test,
        images=_NONE,
        **{name: getattr(setting.test, name)[rows] for name in ("ids", "captions", "lon", "lat")},
    )
    blocks = None if setting.blocks is None else setting.blocks.take(rows)
    card = replace(setting.card, split_fingerprint=test.fingerprint(), n=len(rows))
    placed = replace(setting, test=test, blocks=blocks, card=card)

    def at(which: Model) -> Model:
        return replace(which, test={name: value[rows] for name, value in which.test.items()})

    return location_cards(placed, at(model), None if bare is None else at(bare))


def _read(source: Source, most: int, size: int | None) -> Tiles:
    """Evenly spaced records, their images left where they are until they are needed."""
    count = min(len(source), most)
    rows = np.arange(count) * len(source) // count
    records = [{**source[int(row)], "image": b""} for row in rows]
    lon, lat = (np.array([record[name] for record in records]) for name in ("lon", "lat"))
    return Tiles(
        ids=np.array([record["id"] for record in records]),
        images=Pictures(source, rows, size),  # type: ignore[arg-type]
        captions=np.array([next(iter(record["captions"]), "") for record in records]),
        labels=np.array([record["label"] for record in records], np.int32),
        lon=lon,
        lat=lat,
        masks=_NONE,
        purity=np.full(count, np.nan, np.float32),
        blocks=_cells(lon, lat),
    )


def _cells(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """int64 [n], the cell of one degree of each place; a number of its own for none."""
    placed = ~np.isnan(lon)
    cells = -1 - np.arange(len(lon))
    cells[placed] = np.floor(lat[placed] + 90) * 361 + np.floor(lon[placed] + 180)
    return cells


def _blocks(test: Tiles, seed: int) -> Blocks:
    if np.isnan(test.lon).mean() > 0.5:
        return Blocks.draw(np.arange(len(test)), seed=seed, unit="pairs")
    return Blocks.draw(test.blocks, seed=seed, unit="cells of one degree")


def _encode(setting: Setting, encoders: Encoders, train: Tiles | None, label: str) -> Model:
    def run(split: Tiles, name: str) -> dict[str, np.ndarray]:
        return extract(
            encoders.images,
            split.images,
            batch_size=setting.batch_size,
            mesh=setting.mesh,
            limits={"patches": 0},
            label=f"{label} ({name})",
        )

    learned = {} if train is None else run(train, "train")
    return Model(encoders, learned, run(setting.test, setting.card.split))


def _blank_card(manifest: Mapping[str, Any], split: str, seed: int, provenance: Provenance) -> Card:
    return Card(
        task="",
        metric="",
        dataset=f"{manifest['name']} {manifest['version']}",
        dataset_fingerprint=str(manifest["fingerprint"]),
        split=split,
        seed=seed,
        provenance=provenance,
    )
