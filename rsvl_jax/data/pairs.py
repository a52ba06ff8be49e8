"""A record becomes the sample of a stream: image, text and location, with only what is asked for.

The same transform serves paired, image-only and text-only streams: a part left out adds no key.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from rsvl_jax.data import masking
from rsvl_jax.data.decoding import look
from rsvl_jax.data.tokenizer import Tokenizer
from rsvl_jax.data.transforms import (
    Augmentation,
    CorruptImage,
    Turn,
    View,
    check_location,
    jitter_location,
    keep_visible,
)
from rsvl_jax.errors import UserError

Record = dict[str, Any]
Sample = dict[str, Any]

UNTURNED = Turn()
_SWAP_TRIES = 8
_CHOICES: dict[str, Callable[[Sequence[str], np.random.Generator], str]] = {
    "any": lambda captions, rng: captions[int(rng.random() * len(captions))],
    "first": lambda captions, rng: captions[0],
    "last": lambda captions, rng: captions[-1],
    "longest": lambda captions, rng: max(captions, key=len),
}


class Source(Protocol):
    """Random access to records; pickles, so that worker processes open their own."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Record: ...


@dataclass(frozen=True)
class ImagePart:
    """`image`, and with a `mask_count` also `mim_mask`, `mim_positions` and `mim_weights`.

    statistics: mean and standard deviation of the pixels in [0, 1], three channels each, to be
    normalised with in place of the run's: adds `image_mean` and `image_std`, float32 [3].
    mask_count: patches to hide, of a grid of size / patch; 0 for none. masking: "block" (BEiT) or
    "random". visible: adds `mae_keep`, the indices of the patches that a MAE encoder sees.
    """

    augmentation: Augmentation
    patch: int = 16
    mask_count: int = 0
    masking: str = "block"
    visible: bool = False
    statistics: tuple[Sequence[float], Sequence[float]] | None = None

    def __post_init__(self) -> None:
        if self.augmentation.size % self.patch:
            raise UserError(
                f"image size {self.augmentation.size} is not divisible by patch size {self.patch}"
            )
        if self.masking not in ("block", "random"):
            raise UserError(f"masking {self.masking!r} is unknown; use 'block' or 'random'")

    def __call__(self, record: Record, rng: np.random.Generator) -> tuple[Sample, View]:
        """The sample, and how its image was cut and turned, for what describes it."""
        try:
            view, image = look(record["image"], self.augmentation, rng)
        except CorruptImage as error:
            raise CorruptImage(f"record {record.get('id', '?')!r}: {error}") from error
        mask = self._mask(rng) if self.mask_count else {}
        return {"image": image, **mask, **self._statistics()}, view

    def _statistics(self) -> Sample:
        if self.statistics is None:
            return {}
        mean, std = (np.asarray(values, np.float32) for values in self.statistics)
        return {"image_mean": mean, "image_std": std}

    def _mask(self, rng: np.random.Generator) -> Sample:
        side = self.augmentation.size // self.patch
        draw = masking.block_mask if self.masking == "block" else masking.random_mask
        mask = draw(rng, (side, side), self.mask_count)
        sample = {
            "mim_mask": mask,
            "mim_positions": np.flatnonzero(mask).astype(np.int32),
            "mim_weights": np.ones(self.mask_count, np.float32),
        }
        if self.visible:
            sample["mae_keep"] = np.flatnonzero(~mask).astype(np.int32)
        return sample


@dataclass(frozen=True)
class TextPart:
    """`text`, `text_mask`, `text_id`; with a `mask_count` the masked text; with swaps `itm_label`.

    length: tokens T. mask_count: the fixed K of masked tokens, 0 for none. swap_probability: how
    often the text is replaced, before masking, by a caption of another record of `others` that
    is none of the record's own; None: no matching label. choice: which of a record's captions,
    "any" by chance, "first", "last" or "longest". Directions in a text follow the image's
    turn: see `Turn.ways`.
    """

    tokenizer: Tokenizer = field(repr=False)
    length: int
    mask_count: int = 0
    mask_probability: float = 0.15
    swap_probability: float | None = None
    others: Source | None = field(default=None, repr=False)
    choice: str = "any"

    def __post_init__(self) -> None:
        if self.choice not in _CHOICES:
            raise UserError(
                f"captions {self.choice!r} is unknown; use one of {', '.join(_CHOICES)}"
            )
        if self.length < 3:
            raise UserError(f"text length {self.length} is too short; use at least 3 tokens")
        if self.swap_probability and self.others is None:
            raise UserError("swapped texts need `others`, the source to draw them from")

    def __call__(self, record: Record, rng: np.random.Generator, turn: Turn = UNTURNED) -> Sample:
        captions = record["captions"]
        if not captions:
            raise UserError(f"record {record.get('id', '?')!r} has no caption")
        caption = _CHOICES[self.choice](captions, rng)
        sample: Sample = {}
        if self.swap_probability is not None:
            caption, swapped = self._swap(caption, captions, rng)
            sample["itm_label"] = np.int32(not swapped)
        caption = turn.ways(caption)
        ids, mask = self.tokenizer.encode(caption, self.length)
        sample |= {"text": ids, "text_mask": mask, "text_id": caption_id(caption)}
        if self.mask_count:
            sample |= self._mask(rng, ids, mask)
        return sample

    def _swap(self, caption: str, own: Sequence[str], rng: np.random.Generator) -> tuple[str, bool]:
        if rng.random() >= (self.swap_probability or 0):
            return caption, False
        assert self.others is not None  # checked on creation
        for _ in range(_SWAP_TRIES):
            record = self.others[int(rng.integers(len(self.others)))]
            other = _CHOICES[self.choice](record["captions"], rng)
            if other not in own:
                return other, True
        return caption, False

    def _mask(self, rng: np.random.Generator, ids: np.ndarray, mask: np.ndarray) -> Sample:
        masked, positions, labels, weights = masking.mask_tokens(
            rng,
            ids,
            mask,
            self.tokenizer.word_ids(ids),
            self.tokenizer,
            probability=self.mask_probability,
            max_masked=self.mask_count,
        )
        return {
            "text_masked": masked,
            "mlm_positions": positions,
            "mlm_labels": labels,
            "mlm_weights": weights,
        }


@dataclass(frozen=True)
class LocationPart:
    """`lon`, `lat` in degrees, jittered by up to `jitter` degrees (see `jitter_location`).

    optional: records may have no place (NaN); adds `location_mask`, False and 0, 0 for those.
    """

    jitter: float = 0.0
    symmetric: bool = True
    optional: bool = False

    def __call__(self, record: Record, rng: np.random.Generator) -> Sample:
        lon, lat = float(record["lon"]), float(record["lat"])
        placed = not math.isnan(lon)
        if self.optional and not placed:
            lon = lat = 0.0
        try:
            check_location(lon=lon, lat=lat)
        except UserError as error:
            raise UserError(f"record {record.get('id', '?')!r}: {error}") from error
        if self.jitter and placed:
            lon, lat = jitter_location(
                rng, lon=lon, lat=lat, degrees=self.jitter, symmetric=self.symmetric
            )
        mask = {"location_mask": np.bool_(placed)} if self.optional else {}
        return {"lon": np.float32(lon), "lat": np.float32(lat), **mask}


@dataclass(frozen=True)
class RegionPart:
    """Boxes of the image and their phrases, `count` R at the most, phrases of `length` T tokens:
    `region_boxes` float32 [R, 4] in pixels of the view, `region_mask` bool [R], `region_text` and
    `region_text_mask` [R, T], `region_id` int32 [R], equal for phrases of the same words.

    Boxes are cut and turned with the image, and the words of direction in their phrases with them;
    those of which nothing is left are no regions any more. Of more than R some are drawn.
    """

    tokenizer: Tokenizer = field(repr=False)
    count: int
    length: int

    def __call__(self, record: Record, rng: np.random.Generator, view: View) -> Sample:
        if "boxes" not in record:
            raise UserError(
                f"record {record.get('id', '?')!r} has no boxes of phrases: use a data set that "
                "has, such as earth_tiles, or no term that needs them"
            )
        boxes, phrases = keep_visible(view.boxes(record["boxes"]), record["phrases"])
        kept = np.arange(len(phrases))
        if len(kept) > self.count:
            kept = np.sort(rng.permutation(len(kept))[: self.count])
        words = [view.turn.ways(phrases[i]) for i in kept]
        return self._padded(boxes[kept], words)

    def _padded(self, boxes: np.ndarray, words: Sequence[str]) -> Sample:
        # An empty text is a sound one, which attention can read; nobody looks at what it says.
        texts = [*words, *[""] * (self.count - len(words))]
        ids, masks = zip(*(self.tokenizer.encode(text, self.length) for text in texts), strict=True)
        padded = np.zeros((self.count, 4), np.float32)
        padded[: len(words)] = boxes
        return {
            "region_boxes": padded,
            "region_mask": np.arange(self.count) < len(words),
            "region_text": np.stack(ids),
            "region_text_mask": np.stack(masks),
            "region_id": np.stack([caption_id(text) for text in texts]),
        }


@dataclass(frozen=True)
class SampleTransform:
    """Record and generator to sample. `copied`: numeric fields of the record to pass on as is.

    Crops do not move lon and lat: they stay the centre of the whole tile.
    """

    image: ImagePart | None = None
    text: TextPart | None = None
    location: LocationPart | None = None
    copied: tuple[str, ...] = ()
    regions: RegionPart | None = None

    def __post_init__(self) -> None:
        if self.regions is not None and self.image is None:
            raise UserError("regions need the image that they lie in")

    def __call__(self, record: Record, rng: np.random.Generator) -> Sample:
        """Keys and shapes as the parts say; images are uint8, normalised later on the device."""
        sample: Sample = {}
        view = None
        if self.image is not None:
            sample, view = self.image(record, rng)
        if self.text is not None:
            sample |= self.text(record, rng, UNTURNED if view is None else view.turn)
        if self.location is not None:
            sample |= self.location(record, rng)
        if self.regions is not None and view is not None:
            sample |= self.regions(record, rng, view)  # draws last: the rest is as without it
        return sample | {name: _narrow(record[name]) for name in self.copied}

    def for_evaluation(self) -> "SampleTransform":
        """The same keys without augmentation, swaps and jitter; masks are still drawn."""
        image, text, location = self.image, self.text, self.location
        if image is not None:
            plain = Augmentation(
                image.augmentation.size, interpolation=image.augmentation.interpolation
            )
            image = replace(image, augmentation=plain)
        if text is not None and text.swap_probability is not None:
            text = replace(text, swap_probability=0.0)
        if location is not None:
            location = replace(location, jitter=0.0)
        return replace(self, image=image, text=text, location=location)


def caption_id(caption: str) -> np.int32:
    """A stable hash: identical captions, in any process and run, have identical ids."""
    return np.uint32(zlib.crc32(caption.encode())).view(np.int32)


def _narrow(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))
