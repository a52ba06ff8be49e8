"""BigEarthNet v1: a folder a patch, with PATCH_B01.tif to PATCH_B12.tif and its labels.

BigEarthNet-v1.0/PATCH/PATCH_labels_metadata.json has "labels", of 43 classes; the 19 are made of
them by the data set's own table (see `sets.toml`). Bands are 10, 20 and 60 m: all are brought to
the size of the 10 m ones.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from tqdm import tqdm

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import known as sets
from rsvl_jax.evaluation_sets import pictures, splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.known import Known

_FOLDER = "BigEarthNet-v1.0"
_LABELS = "_labels_metadata.json"
_ALL = "bigearthnet43"


@dataclass(frozen=True)
class Patches:
    """Some bands of patches: row -> values [H,W,C], those of the first band's size.

    names: folders below the root, whose last part the files are called by.
    """

    root: str
    names: Sequence[str]
    bands: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> np.ndarray:
        name = self.names[row]
        found = [self._band(name, band) for band in self.bands]
        high, wide = max(band.shape for band in found)
        return np.stack(
            [cv2.resize(band, (wide, high), interpolation=cv2.INTER_LINEAR) for band in found], -1
        )

    def _band(self, name: str, band: str) -> np.ndarray:
        path = os.path.join(self.root, name, f"{os.path.basename(name)}_{band}.tif")
        if not os.path.isfile(path):
            raise UserError(f"{path!r} is not there: a patch has {len(self.bands)} bands")
        values, _ = pictures.bands(path)
        if values.shape[2] != 1:
            raise UserError(f"{path!r} has {values.shape[2]} bands: one is wanted")
        return values[..., 0].astype(np.float32)


@dataclass(frozen=True)
class Shown:
    """Patches of three bands as RGB: row -> uint8 [H,W,3]."""

    patches: Patches
    sensor: str
    added: int

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, row: int) -> np.ndarray:
        return pictures.shown(self.patches[row], self.sensor, self.added)


def read(known: Known, root: str, split: str, rule: str = "", added: int = 0) -> Collection:
    """A split, by its published list of patches or all of them.

    Patches that are of none of the classes are left out and counted. Raises UserError for a patch
    without labels, a label that there is not, and what `splits` raises.
    """
    split, folder = splits.spelt(split), _folder(root)
    names = sorted(entry.name for entry in os.scandir(folder) if entry.name.startswith("S2"))
    if not names:
        raise UserError(f"{folder!r} has no folders of patches, S2..._45_67")
    if rule in (splits.OWN, splits.REMOTECLIP):
        raise UserError(f"split rule {rule!r}: {known.name} has all, {', '.join(known.lists)}")
    rule = splits.rule_of(known, root, False, split, rule)
    chosen = [names[row] for row in splits.chosen(names, names, known, root, split, rule)]
    bar = tqdm(chosen, desc="labels", leave=False, disable=len(chosen) < 10_000)
    labels = np.array([_labels(known, folder, name) for name in bar], bool)
    some = np.flatnonzero(labels.any(axis=1))
    kept = tuple(chosen[row] for row in some)
    none = len(chosen) - len(kept)
    return Collection(
        name=known.name,
        split=split,
        ids=kept,
        images=Shown(Patches(folder, kept, ("B04", "B03", "B02")), known.sensor, added),
        labels=labels[some],
        classes=known.classes,
        blocks=scenes(kept),
        bands=Patches(folder, kept, known.bands),
        band_names=known.bands,
        dropped={f"patches of none of the {len(known.classes)} classes": none} if none else {},
        protocol={
            **splits.told(known, root, split, rule),
            "bands": "B04, B03, B02 by the sensor table",
            "added": added,
        },
    )


def _folder(root: str) -> str:
    inside = os.path.join(root, _FOLDER)
    return inside if os.path.isdir(inside) else root


def _labels(known: Known, folder: str, name: str) -> np.ndarray:
    """bool [C]."""
    path = os.path.join(folder, name, name + _LABELS)
    try:
        with open(path, encoding="utf-8") as file:
            written = json.load(file)["labels"]
    except OSError as error:
        raise UserError(f"the patch {name!r} has no labels: {path!r} is not there") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path!r} is no JSON with 'labels' ({error!r})") from error
    found = np.zeros(len(known.classes), bool)
    for label in written:
        if label not in sets.find(_ALL).classes:
            raise UserError(f"{path!r}: {label!r} is none of the 43 labels")
        own = known.aliases.get(label, label)
        if own in known.classes:
            found[known.classes.index(own)] = True
    return found


def scenes(names: Sequence[str]) -> np.ndarray:
    """A number for each Sentinel-2 product: patches of one lie beside one another."""
    products = [name.rsplit("_", 2)[0] for name in names]
    return np.unique(products, return_inverse=True)[1].astype(np.int64)
