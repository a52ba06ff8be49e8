"""Regions by Segment Anything (Kirillov et al. 2023), its weights read by `transformers`.

Masks are proposed as its automatic mask generator does it on one crop: a grid of points as
prompts, three masks a point, those kept that the model trusts and that are stable under another
threshold, and of nearly the same ones the most trusted. (The pipeline of `transformers` does the
same, but needs torchvision.)
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from graft_jax.segment.regions import paint
from rsvl_jax.errors import UserError

# Segment Anything's own values (facebookresearch/segment-anything, automatic_mask_generator.py).
POINTS = 32
TRUSTED, STABLE = 0.88, 0.95
_SAME = 0.7  # IoU of boxes
_AT_ONCE = 64  # points
_SPREAD = 16  # masks at full size


class Proposal(NamedTuple):
    """A mask, its pixels packed into bits: hundreds of them wait for one another.

    bits: uint8 [ceil(H * W / 8)] · box: left, top, right, bottom, exclusive · trust: foreseen IoU.
    """

    bits: np.ndarray
    box: tuple[int, int, int, int]
    trust: float

    @classmethod
    def of(cls, mask: np.ndarray, trust: float) -> "Proposal":
        """From a mask bool [H, W] that is not empty."""
        rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        return cls(np.packbits(mask), box, trust)

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """bool [H, W]."""
        return np.unpackbits(self.bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)


def distinct(proposals: Sequence[Proposal]) -> list[Proposal]:
    """The most trusted of those whose boxes are nearly the same (non-maximum suppression)."""
    waiting = sorted(proposals, key=lambda each: -each.trust)
    kept: list[Proposal] = []
    while waiting:
        best, *others = waiting
        kept.append(best)
        waiting = [other for other in others if _iou(best.box, other.box) <= _SAME]
    return kept


def _iou(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return width * height / (sum(areas) - width * height)


class SegmentAnything:
    """A model of `transformers` as `Regions`."""

    def __init__(
        self, name: str, points: int = POINTS, *, trusted: float = TRUSTED, stable: float = STABLE
    ):
        """name: a folder, or a model of the hub. points: prompts along a side of the image.

        trusted: least IoU that the model foresees for a mask that is kept. stable: least IoU of its
        masks at the logits +1 and -1.

        Raises UserError where torch and transformers, or such weights, are not there.
        """
        if points < 1:
            raise UserError(f"{points} points a side propose nothing: give 1 or more")
        try:
            import torch
            from transformers import AutoConfig, AutoImageProcessor, SamModel
        except ImportError as error:
            raise UserError(
                f"Segment Anything needs torch and transformers ({error}): pip install "
                "'rsvl-jax[sam]', or take --refine=superpixels"
            ) from error
        try:
            kind = AutoConfig.from_pretrained(name).model_type
            if kind != "sam":
                raise ValueError(f"its model type is {kind!r}, not 'sam'")
            self._model: Any = SamModel.from_pretrained(name).eval()
            self._processor: Any = AutoImageProcessor.from_pretrained(name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"no Segment Anything weights in --sam={name!r}: give a folder with config.json, "
                f"preprocessor_config.json and model.safetensors, or a name of the hub ({reason})"
            ) from error
        self._torch, self._points = torch, points
        self._trusted, self._stable = trusted, stable

    def __call__(self, image: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """The smallest proposed mask of each pixel, see `regions.Regions`."""
        masks = [each.mask(valid.shape) for each in distinct(self.propose(image))]
        return np.where(valid, paint(masks, valid.shape), 0)

    def propose(self, image: np.ndarray) -> list[Proposal]:
        """Masks of an image uint8 [H, W, 3] that are trusted and stable, many the same."""
        with self._torch.no_grad():
            return list(self._propose(image))

    def _propose(self, image: np.ndarray) -> Iterator[Proposal]:
        inputs = self._processor(images=image, return_tensors="pt")
        embedded = self._model.get_image_embeddings(inputs["pixel_values"])
        points = _grid(self._points, inputs["reshaped_input_sizes"][0].tolist())
        for start in range(0, len(points), _AT_ONCE):
            part = self._torch.from_numpy(points[None, start : start + _AT_ONCE, None])
            out = self._model(image_embeddings=embedded, input_points=part, multimask_output=True)
            trust = out.iou_scores.flatten()
            good = trust > self._trusted
            small, trust = out.pred_masks.flatten(0, 2)[good], trust[good].tolist()
            for first in range(0, len(small), _SPREAD):
                here = slice(first, first + _SPREAD)
                large = self._at_full_size(small[here], inputs)
                for logits, value in zip(large, trust[here], strict=True):
                    if (logits > 0).any() and _stability(logits) > self._stable:
                        yield Proposal.of(logits > 0, value)

    def _at_full_size(self, logits: Any, inputs: Any) -> np.ndarray:
        """Mask logits [n, h, w] -> float32 [n, H, W] of the image."""
        whole = self._processor.post_process_masks(
            [logits[:, None]],
            inputs["original_sizes"],
            inputs["reshaped_input_sizes"],
            binarize=False,
        )
        return whole[0][:, 0].numpy()


def _grid(points: int, size: list[int]) -> np.ndarray:
    """Centres of points x points cells of `size` (height, width): x, y, float32 [n, 2]."""
    across = (np.arange(points) + 0.5) / points
    y, x = np.meshgrid(across * size[0], across * size[1], indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def _stability(logits: np.ndarray) -> float:
    return float((logits > 1).sum() / max(int((logits > -1).sum()), 1))
