"""The model under test: its features of any collection, computed once and kept on disk."""

import functools
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import numpy as np
from jax.sharding import Mesh

from rsvl_jax.data.fits import FITS, reduced
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation.card import Card, Provenance
from rsvl_jax.evaluation.features import Encoders, Features, Rows, encode_texts, extract
from rsvl_jax.evaluation.segmentation_upernet import Backbone
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.parallel import distributed
from rsvl_jax.storage import replace_file

MODEL = "model"  # the fit that the model itself says
KEPT = ("cls", "mean", "text_space", "location_space")
POOLINGS = {
    "cls": "class token",
    "mean": "mean of the patch tokens",
    "text_space": "embedding that is compared with texts",
    "location_space": "embedding that is compared with places",
}


@dataclass(frozen=True)
class Subject:
    """A model and what it has seen.

    Attributes:
      encoders: on the mesh. prepare: an image of any size as the model itself wants it.
      provenance: for the cards. cache: folder of features; "" keeps none.
      seed: of every draw.
      untrained: makes the encoders of the same model at initialisation, which scores on the
        embedded data stand beside; None where nobody knows how the model began.
      backbone: gives the ViT of the images, to be trained further; None where there is none.
      earth: name and directory of the embedded data that the model was trained on, None for others.
    """

    encoders: Encoders
    prepare: Callable[[np.ndarray], np.ndarray]
    provenance: Provenance
    mesh: Mesh
    batch_size: int
    cache: str = ""
    seed: int = 0
    untrained: Callable[[], Encoders] | None = None
    backbone: Callable[[], Backbone] | None = None
    earth: tuple[str, str] | None = None
    _found: dict[str, Features] = field(default_factory=dict)

    def features(self, of: Collection, fit: str = MODEL, resolution: float = 1.0) -> Features:
        """Features of all images, name -> float32 [n, D]: "cls", "mean" and, where the model has
        such spaces, "text_space" and "location_space".

        fit: how images become the model's size: "model", or a key of `data.fits.FITS`. resolution:
        share of its pixels a side that an image keeps before, by area, as if seen from higher up.
        """
        return self.kept(self._says(of, fit, resolution), lambda: self._made(of, fit, resolution))

    def kept(self, of: object, make: Callable[[], Features]) -> Features:
        """Features of this model, computed where they are not in memory or in the cache.

        of: what they are of, as JSON has it.
        """
        key = self._key(of)
        if key not in self._found:
            found = _read(self.cache, key)
            # Where one process has to compute, all do: the encoders run on the devices of all.
            if not distributed.everywhere(found is not None) or found is None:
                found = make()
                if self.cache and jax.process_index() == 0:
                    _write(self.cache, key, found)
            self._found[key] = found
        return self._found[key]

    def _made(self, of: Collection, fit: str, resolution: float) -> Features:
        return extract(
            self._encode,
            self.images(of, fit, resolution),
            batch_size=self.batch_size,
            mesh=self.mesh,
            label=f"{of.name} {of.split}",
        )

    @functools.cached_property
    def _encode(self) -> Callable[[jax.Array], dict[str, jax.Array]]:
        def encode(pixels: jax.Array) -> dict[str, jax.Array]:
            found = self.encoders.images(pixels)
            return {name: found[name] for name in KEPT if name in found}

        return encode

    def images(self, of: Collection, fit: str = MODEL, resolution: float = 1.0) -> Rows:
        """The images at the model's size, uint8 [S,S,3] when asked for; see `features`."""
        images = of.images
        if resolution != 1:
            images = _Fitted(images, lambda image: reduced(image, resolution))
        if fit == MODEL:
            return _Fitted(images, self.prepare)
        if fit not in FITS:
            raise UserError(f"fit {fit!r}: use {MODEL}, {', '.join(FITS)}")
        side = self.encoders.image_size
        assert side is not None
        return _Fitted(images, lambda image: FITS[fit](image, side))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of texts, float32 [n,E]; the model has a text encoder."""
        assert self.encoders.texts is not None
        return encode_texts(self.encoders.texts, texts, batch_size=self.batch_size, mesh=self.mesh)

    def card(self, of: Collection, task: str, title: str, fit: str, **protocol: object) -> Card:
        """The card of a task on a split, with the protocol of the model, the set and the task."""
        how = dict(self.encoders.protocol)
        if fit != MODEL:
            how["image"] = f"{fit} to {self.encoders.image_size} pixels"
        return Card(
            task=f"{of.name}/{task}",
            metric="",
            title=f"{of.name}: {title}",
            n=len(of),
            dataset=of.name,
            split=of.split,
            split_fingerprint=of.fingerprint(),
            protocol={**how, **of.protocol, "dropped": dict(of.dropped), **protocol},
            seed=self.seed,
            provenance=self.provenance,
        )

    def _says(self, of: Collection, fit: str, resolution: float) -> object:
        says = [of.name, of.split, of.fingerprint(), dict(of.protocol)]
        return {"set": says, "fit": fit if resolution == 1 else [fit, resolution]}

    def _key(self, of: object) -> str:
        says = [self.provenance.weights, dict(self.encoders.protocol), of]
        text = json.dumps(says, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


@dataclass(frozen=True)
class _Fitted:
    images: Rows
    fit: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.fit(self.images[row])


def _read(folder: str, key: str) -> Features | None:
    """Kept features; None where there are none, or they are damaged (which is said)."""
    path = os.path.join(folder, f"{key}.npz")
    if not folder or not os.path.exists(path):
        return None
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        print(f"features in {path!r} are damaged ({error}): computed again", file=sys.stderr)
        return None


def _write(folder: str, key: str, found: Features) -> None:
    os.makedirs(folder, exist_ok=True)
    with replace_file(os.path.join(folder, f"{key}.npz")) as file:
        np.savez(file, **dict(found))  # type: ignore[arg-type]
