"""The suite of the embedded data set: kNN, zero-shot, retrieval and segmentation, with references.

Protocol, as the cards repeat it:
- Classification scores the tiles that have a label (unambiguous ones). Balanced accuracy is the
  mean recall of the classes present in the test split.
- Zero-shot prompts are the manifest's templates filled with the manifest's class names. Captions
  and labels come from one land-cover raster, so the score partly measures that agreement.
- Image-text retrieval uses the FIRST caption of each test tile; every tile whose first caption
  is the same string is a right answer. Image-location retrieval: only the tile's own centre is.
- Segmentation trains its linear head on at most SEGMENTATION_TILES training tiles and scores all
  test tiles; IGBP classes are merged as in the captions, and the mean IoU runs over the merged
  classes present in the test masks, and, beside it, over those that hold at least a hundredth of
  the pixels.
- The linear probe learns from the labelled training tiles; every fifth training block stands aside
  for the choice of its strength, and is learned from afterwards.
- Questions (presence, count, comparison) are made from the masks of the test tiles, as many with
  yes as with no; things are connected areas of at least a patch.
- Intervals resample geographic blocks of the test split; in retrieval the queries are resampled
  and the gallery stays whole.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rsvl_jax.data.pairs import Source
from rsvl_jax.datasets.earth_tiles.classes import KIND_OF_IGBP, Kind
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import knn, references, tiles
from rsvl_jax.evaluation.bootstrap import Blocks
from rsvl_jax.evaluation.card import Card, Provenance
from rsvl_jax.evaluation.features import Encoders, Features, Keep, extract
from rsvl_jax.evaluation.geolocation_tasks import geolocation_cards
from rsvl_jax.evaluation.land_cover_tasks import POOLINGS, knn_cards, zeroshot_cards
from rsvl_jax.evaluation.probe_tasks import probe_cards
from rsvl_jax.evaluation.question_tasks import question_cards
from rsvl_jax.evaluation.retrieval_tasks import location_cards, text_cards
from rsvl_jax.evaluation.segmentation_tasks import segmentation_cards
from rsvl_jax.evaluation.suite import Model, Setting

SEGMENTATION_TILES = 2000
QUICK_TRAIN_TILES = 1024
QUICK_TEST_TILES = 512
KNN = {"l2_k5": knn.L2_5, "cosine_k20": knn.COSINE_20}

# Pixels are scored in the classes that the data set's captions and labels speak of: IGBP's five
# forests, two shrublands and two croplands cannot be told apart at 7.4 km.
PIXEL_CLASSES = tuple(kind.name.lower() for kind in Kind)
_UNKNOWN = 255
_PIXEL_CLASS_OF_IGBP = np.full(256, _UNKNOWN, np.uint8)
_PIXEL_CLASS_OF_IGBP[: len(KIND_OF_IGBP)] = KIND_OF_IGBP


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
    keep: Keep = lambda of, make: make(),
) -> list[Card]:
    """Scores a model on the embedded data set.

    Args:
      encoders: the model.
      untrained: the same architecture at initialisation, a reference of every score; None, or
        `quick`, leaves that reference out.
      train_source, test_source: records of the training split (for kNN and the segmentation
        head) and of the split that is scored.
      manifest: of the data set; "classes" (a name, or a list of synonyms, each) and "prompts"
        (templates with "{c}") are used.
      batch_size: global, of the encoders.
      mesh: over which image batches are sharded.
      seed: of the order of training tiles, of sampled pixels and of the bootstrap.
      quick: what training can afford between steps: fewer tiles, kNN (L2, mean pooling),
        zero-shot and retrieval, no segmentation, no intervals, and no reference but chance.
      split: name of the scored split, for the cards.
      provenance: what is scored, for the cards.
      keep: may keep features, of the model at initialisation too, and give them again.

    Raises UserError for empty splits, undecodable records, bad prompts, features not finite.
    """
    train = _train_tiles(train_source, seed, quick)
    test = _test_tiles(test_source, quick)
    setting = Setting(
        train=train,
        test=test,
        classes=_listed(manifest, "classes"),
        templates=_listed(manifest, "prompts"),
        pixel_classes=PIXEL_CLASSES,
        blocks=None if quick else Blocks.draw(test.blocks, seed=seed),
        card=_blank_card(manifest, test, split, seed, provenance or Provenance()),
        reference_features=None if quick else references.features(train, test),
        batch_size=batch_size,
        mesh=mesh,
    )
    patches = 0 if quick else SEGMENTATION_TILES
    model = _encode(setting, encoders, patches, "encoding", keep)
    bare = None
    if untrained is not None and not quick:
        bare = _encode(setting, untrained, patches, "encoding, untrained", keep)
    return _score(setting, model, bare, quick, seed)


def _score(
    setting: Setting, model: Model, bare: Model | None, quick: bool, seed: int
) -> list[Card]:
    poolings = ["mean"] if quick else [name for name in POOLINGS if name in model.test]
    protocols = {"l2_k5": KNN["l2_k5"]} if quick else KNN
    found = [
        *knn_cards(setting, model, bare, protocols, poolings),
        *zeroshot_cards(setting, model, bare),
        *text_cards(setting, model, bare),
        *location_cards(setting, model, bare),
    ]
    if quick:
        return found
    return [
        *found,
        *probe_cards(setting, model, bare, poolings),
        *geolocation_cards(setting, model, bare),
        *segmentation_cards(setting, model, bare, seed=seed),
        *question_cards(setting, model, bare, seed=seed),
    ]


def _train_tiles(source: Source, seed: int, quick: bool) -> tiles.Tiles:
    """Training tiles in a seeded random order, so that leading tiles are a fair sample."""
    order = np.random.default_rng(seed).permutation(len(source))
    return _merged(tiles.read(source, order[:QUICK_TRAIN_TILES] if quick else order))


def _test_tiles(source: Source, quick: bool) -> tiles.Tiles:
    """All tiles of the scored split in their order, or evenly spaced ones."""
    count = min(len(source), QUICK_TEST_TILES) if quick else len(source)
    return _merged(tiles.read(source, np.arange(count) * len(source) // max(count, 1)))


def _merged(split: tiles.Tiles) -> tiles.Tiles:
    """The tiles with masks of PIXEL_CLASSES instead of IGBP's."""
    return replace(split, masks=_PIXEL_CLASS_OF_IGBP[split.masks])


def _listed(manifest: Mapping[str, Any], key: str) -> list[Any]:
    if not manifest.get(key):
        raise UserError(f"the data set's manifest has no {key!r}: build the data set again")
    return list(manifest[key])


def _blank_card(
    manifest: Mapping[str, Any], test: tiles.Tiles, split: str, seed: int, provenance: Provenance
) -> Card:
    return Card(
        task="",
        metric="",
        dataset=f"{manifest['name']} {manifest['version']}",
        dataset_fingerprint=str(manifest["fingerprint"]),
        split=split,
        split_fingerprint=test.fingerprint(),
        n=len(test),
        seed=seed,
        provenance=provenance,
    )


def _encode(setting: Setting, encoders: Encoders, patches: int, label: str, keep: Keep) -> Model:
    """Features of both splits; patch tokens of the leading `patches` training tiles only."""

    def run(split: tiles.Tiles, limit: int, name: str) -> Features:
        limits = {"patches": limit, "text_patches": whole if split is setting.test else 0}

        def make() -> Features:
            return extract(
                encoders.images,
                split.images,
                batch_size=setting.batch_size,
                mesh=setting.mesh,
                limits=limits,
                label=f"{label} ({name})",
            )

        return keep([label, setting.card.dataset_fingerprint, split.fingerprint(), limits], make)

    whole = len(setting.test) if patches else 0
    train = run(setting.train, patches, "train")
    return Model(encoders, train, run(setting.test, whole, setting.card.split))
