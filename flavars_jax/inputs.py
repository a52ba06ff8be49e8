"""The data of a FLAVARS run: dataset, tokenizer, codebook, and the batches of a step."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from flavars_jax import captions, ingredients
from flavars_jax.ingredients import Ingredient
from flavars_jax.settings import Settings, channels
from rsvl_jax import datasets
from rsvl_jax.data import mixtures, pairs, pipeline, prefetch
from rsvl_jax.data.cache import cache_from
from rsvl_jax.data.codebook import fit_patch_codebook
from rsvl_jax.data.pairs import ImagePart, LocationPart, RegionPart, SampleTransform, TextPart
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, Tokenizer
from rsvl_jax.data.transforms import Augmentation, decode, resize
from rsvl_jax.errors import UserError
from rsvl_jax.parallel.sharding import batch_sharding

STREAMS = ("paired", "image", "text")
_CODEBOOK_IMAGES = 2000


@dataclass(frozen=True)
class Inputs:
    """What a run reads, opened once.

    Attributes:
      manifest: of the dataset; of a mixture, of all its parts.
      train: the training split, a `mixtures.Mixture` where there are several.
      tokenizer: of the captions; that of the first part, or of the texts alone; None without any.
      name: of the dataset, the first of a mixture: it is the one that the run is scored on.
      parts: the datasets that `train` is of.
      unimodal: stream -> the source of its own, where it has one.
    """

    manifest: dict[str, Any]
    train: pairs.Source
    tokenizer: Tokenizer | None
    name: str
    directory: str
    parts: tuple[Ingredient, ...] = (Ingredient(""),)
    unimodal: Mapping[str, pairs.Source] = field(default_factory=dict)

    @classmethod
    def open(cls, config: ConfigDict, tokenizer: Tokenizer | None = None) -> "Inputs":
        """Opens the datasets of `config.data`, building first what is missing.

        tokenizer: None for that of the first dataset with captions.
        """
        parts, directory = ingredients.ingredients(config.data), config.data.dir
        others = ingredients.unimodal(config.data)
        for name in (*(part.name for part in parts), *others.values()):
            datasets.ensure(name, directory)
        name = parts[0].name
        if tokenizer is None:
            tokenizer = _tokenizer([name, *filter(None, [others.get("text")])], directory)
        return cls(
            manifest=ingredients.manifests(parts, others, directory),
            train=ingredients.load(parts, directory),
            tokenizer=tokenizer,
            name=name,
            directory=directory,
            parts=parts,
            unimodal={
                stream: datasets.load(other, directory, "train") for stream, other in others.items()
            },
        )

    def split(self, name: str) -> pairs.Source:
        """A split of the dataset that the run is scored on."""
        return datasets.load(self.name, self.directory, name)

    @property
    def scored(self) -> dict[str, Any]:
        """The manifest of that dataset."""
        return (
            self.manifest if len(self.parts) == 1 else datasets.manifest(self.name, self.directory)
        )

    def codebook(self, settings: Settings) -> np.ndarray | None:
        """The patch codebook of this patch and codebook size, fitted and kept if it is new.

        None where no term predicts visual words. Raises UserError for the "dalle" tokenizer
        without weights.
        """
        if not settings.predicts_codes:
            return None
        if settings.image_tokenizer == "dalle":
            raise UserError(
                "objective.image_tokenizer='dalle' needs the weights of the DALL-E encoder: set "
                "config.init_from.tokenizer; use 'patches' to fit a codebook instead"
            )
        image, size = settings.image, settings.codebook_size
        usual = image.image_size == _native_size(self.train)
        scale = "" if usual else f"_r{image.image_size}"
        if len(self.parts) > 1:  # kept beside the first part
            scale += f"_{self.manifest['fingerprint'][:12]}"
        filename = f"codebook_p{image.patch_size}_k{size}{scale}.npz"
        path = os.path.join(os.path.dirname(self._artifact("manifest.json")), filename)
        if not os.path.exists(path):
            self._fit_codebook(path, settings)
        with np.load(path) as arrays:
            return arrays["centroids"]

    def _artifact(self, filename: str) -> str:
        return datasets.artifact(self.name, self.directory, filename)

    def _fit_codebook(self, path: str, settings: Settings) -> None:
        count = min(_CODEBOOK_IMAGES, len(self.train))
        rows: Any = np.random.default_rng(0).permutation(len(self.train))[:count]
        if isinstance(self.train, mixtures.Mixture):  # by weight, not by size
            order = self.train.order((0,))
            rows = [order(draw) for draw in range(count)]
        side = (settings.image.image_size,) * 2
        images = np.stack(
            [
                resize(decode(self.train[int(row)]["image"]), side)
                for row in tqdm(rows, "fitting the patch codebook", unit="image", leave=False)
            ]
        )
        centroids = fit_patch_codebook(
            images, patch_size=settings.image.patch_size, size=settings.codebook_size, seed=0
        )
        temporary = f"{path}.{os.getpid()}.tmp"
        with open(temporary, "wb") as file:
            np.savez(file, centroids=centroids)
        os.replace(temporary, path)

    def batches(
        self, config: ConfigDict, settings: Settings, mesh: Mesh, start_step: int
    ) -> prefetch.DevicePrefetch:
        """Batches {"paired": ..., ...} as global arrays on the mesh, from `start_step` on."""
        host = pipeline.mixed_batches(
            self._streams(config, settings),
            seed=config.seed,
            start_step=start_step,
            workers=config.data.workers,
            threads=config.data.threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            text_buckets=tuple(config.data.text_buckets),
            skip_corrupt=config.data.skip_corrupt,
        )
        return prefetch.to_device(host, batch_sharding(mesh))

    def _streams(self, config: ConfigDict, settings: Settings) -> dict[str, pipeline.Stream]:
        sizes = stream_sizes(config)
        _check_texts(config, settings, self.manifest)
        wholes = [
            transform(config, settings, self.tokenizer, source, self.manifest, part)
            for source, part in zip(self._sources(), self.parts, strict=True)
        ]
        images = cache_from(self.train, config.data, self.manifest["fingerprint"])
        return {
            name: pipeline.Stream(*self._stream(name, images, wholes, config, settings), size)
            for name, size in sizes.items()
            if size
        }

    def _sources(self) -> tuple[pairs.Source, ...]:
        train = self.train
        return train.sources if isinstance(train, mixtures.Mixture) else (train,)

    def _stream(
        self,
        name: str,
        images: pairs.Source,
        wholes: list[SampleTransform],
        config: ConfigDict,
        settings: Settings,
    ) -> tuple[pairs.Source, pipeline.Transform]:
        """What the rows of a stream are made of.

        images: the training split, maybe with a cache. wholes: the paired transform of each part.
        """
        if name in self.unimodal:
            source = self.unimodal[name]
            text = _text(config, config.data, settings, self.tokenizer, source)
            image = wholes[0].image  # as of the first part
            return source, _only(name, SampleTransform(image=image, text=text))
        transforms = [_only(name, whole) for whole in wholes]
        several = len(transforms) > 1
        train = self.train if name == "text" else images
        return train, mixtures.PartTransform(transforms) if several else transforms[0]


def _tokenizer(names: list[str], directory: str) -> SentencePieceTokenizer | None:
    """That of the first dataset with captions."""
    for name in names:
        if captioned(datasets.manifest(name, directory)):
            return SentencePieceTokenizer(datasets.artifact(name, directory, captions.FILE))
    return None


def captioned(manifest: Mapping[str, Any]) -> bool:
    """Whether the records of a dataset have captions."""
    return "captions" in manifest.get("parts", ("captions",))


def _check_texts(config: ConfigDict, settings: Settings, manifest: Mapping[str, Any]) -> None:
    """UserError where a term needs the captions of a dataset that has none."""
    if captioned(manifest):
        return
    asking = settings.on - {"mim", "image_location"}
    if "text" in ingredients.unimodal(config.data):
        asking -= {"mlm"}
    if asking:
        raise UserError(
            f"data.name={manifest['name']!r} has no captions, which the terms "
            f"{', '.join(sorted(asking))} need: choose the preset ':satclip' or ':mae', or a "
            "dataset with captions"
        )


def _only(stream: str, whole: SampleTransform) -> SampleTransform:
    """The transform of a stream."""
    if stream == "image":
        return SampleTransform(image=whole.image)
    return SampleTransform(text=_unpaired(whole.text)) if stream == "text" else whole


def stream_sizes(config: ConfigDict) -> dict[str, int]:
    """Rows of the global batch by stream, in proportion to `data.streams`.

    Raises UserError where the shares do not give whole rows.
    """
    shares = {name: float(config.data.streams.get(name, 0.0)) for name in STREAMS}
    total = sum(shares.values())
    if total <= 0 or min(shares.values()) < 0:
        raise UserError(f"data.streams={shares}: shares must be positive and not all zero")
    sizes = {name: config.data.batch_size * share / total for name, share in shares.items()}
    if any(abs(size - round(size)) > 1e-6 for size in sizes.values()):
        raise UserError(
            f"data.batch_size={config.data.batch_size} does not split into data.streams={shares}: "
            "choose shares that give whole rows"
        )
    return {name: round(size) for name, size in sizes.items()}


def transform(
    config: ConfigDict,
    settings: Settings,
    tokenizer: Tokenizer | None,
    others: pairs.Source,
    manifest: Mapping[str, Any],
    part: Ingredient | None = None,
) -> SampleTransform:
    """Record to paired sample, with the fields that the terms of `settings` need.

    others: where swapped captions come from. manifest: of all that the run is trained on. part: of
    a mixture, for what is its own. Raises UserError where a term needs what the data lack.
    """
    data, objective = part.data(config) if part else config.data, config.objective
    masks_image = "mim" in settings.on or settings.fuses_masked
    reads = captioned(manifest)
    return SampleTransform(
        image=ImagePart(
            augmentation=Augmentation(
                settings.image.image_size,
                crop_scale=tuple(data.crop_scale),
                crop_ratio=tuple(data.crop_ratio),
                flip_horizontal=data.flip_horizontal,
                flip_vertical=data.flip_vertical,
                rotate=data.rotate,
                decode=data.decode,
            ),
            patch=settings.image.patch_size,
            mask_count=settings.masked_patches if masks_image else 0,
            masking=objective.image_masking,
            visible=settings.mae,
            statistics=_statistics(config, data) if part else None,
        ),
        text=_text(config, data, settings, tokenizer, others) if reads else None,
        location=_location(data, settings, manifest),
        regions=_regions(settings, tokenizer, manifest) if tokenizer else None,
    )


def _text(
    config: ConfigDict,
    data: ConfigDict,
    settings: Settings,
    tokenizer: Tokenizer | None,
    others: pairs.Source,
) -> TextPart | None:
    if tokenizer is None:
        return None
    masks = "mlm" in settings.on or settings.fuses_masked
    swaps = "itm" in settings.on and not settings.hard_itm
    return TextPart(
        tokenizer,
        length=settings.text.max_length,
        mask_count=settings.masked_words if masks else 0,
        mask_probability=config.objective.text_mask_ratio,
        swap_probability=config.objective.itm_swap_probability if swaps else 0.0,
        others=others,
        choice=data.get("captions") or "any",
    )


def _location(
    data: ConfigDict, settings: Settings, manifest: Mapping[str, Any]
) -> LocationPart | None:
    """None for a dataset of no places, where no term asks for them."""
    counts = manifest.get("has", {}).get("train")  # else every record has one
    if counts is not None and not counts["located"]:
        asking = sorted({"image_location", "text_location"} & settings.on)
        if asking:
            raise UserError(
                f"data.name={manifest['name']!r} has no coordinates, which the terms "
                f"{', '.join(asking)} need: choose the preset ':flava', or a dataset with places"
            )
        return None
    some = counts is not None and counts["located"] < manifest["splits"]["train"]
    return LocationPart(jitter=data.jitter_degrees, symmetric=data.jitter_symmetric, optional=some)


def _statistics(config: ConfigDict, data: ConfigDict) -> Any:
    """What images are normalised with, where a part of the run's mixture has its own."""
    own = [part.own for part in ingredients.ingredients(config.data)]
    if not any({"mean", "std"} & set(keys) for keys in own):
        return None
    return channels("data.mean", data.mean), channels("data.std", data.std)


def _regions(
    settings: Settings, tokenizer: Tokenizer, manifest: Mapping[str, Any]
) -> RegionPart | None:
    """None where no term asks for boxes."""
    if "phrase_region" not in settings.on:
        return None
    counts = manifest.get("has", {}).get("train")
    if counts is not None and not counts["with_boxes"]:
        raise UserError(
            f"data.name={manifest['name']!r} has no phrases with boxes, which the term "
            "phrase_region needs: see docs/grounded_captions.md, or set its weight to 0"
        )
    return RegionPart(tokenizer, settings.regions, settings.phrase_length)


def _unpaired(text: TextPart | None) -> TextPart | None:
    return None if text is None else replace(text, swap_probability=None, others=None)


def _native_size(source: pairs.Source) -> int:
    return decode(source[0]["image"]).shape[0]
