"""Semantic segmentation by a small convolutional head on frozen patch tokens.

A linear head sees one token at a time; this one sees the tokens around, and may draw borders finer
than a patch. It is trained in the way of torchgeo-bench's heads (its `seg-conv_block` has 1x1
convolutions and tokens of several layers instead): AdamW at 1e-3, cosine to zero, width 256.
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rsvl_jax.data.order import Epochs
from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import placing
from rsvl_jax.evaluation import segmentation as seg
from rsvl_jax.evaluation import segmentation_training as training
from rsvl_jax.evaluation.features import to_host
from rsvl_jax.models import functional
from rsvl_jax.models.convolutions import ConvHead, ConvHeadConfig

_CHUNK = 16  # images a device whose logits are in memory at a time
_ORDER, _START = 1, 2  # in the keys of what is drawn


@dataclass(frozen=True)
class ConvTraining:
    """The head and its training.

    Attributes:
      width: of the convolutions. stages: 3x3 convolutions, each followed by twice the size.
      steps: of AdamW. batch: images a step. learning_rate: at first; cosine to zero.
      weight_decay: of the kernels, PyTorch's default.
    """

    width: int = 256
    stages: int = 2
    steps: int = 500  # 8 epochs of 2,000 images; torchgeo-bench has 10
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        for name in ("width", "stages", "steps", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name}={value!r} of the segmentation head: give a number from 1")
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < np.inf:
                raise UserError(f"{name}={value!r} of the segmentation head: give zero or more")

    def describe(self) -> dict[str, object]:
        """The protocol as it stands on a card."""
        return {
            "head": "3x3 convolutions, group norm, ReLU, each to twice the size; 1x1, bilinear",
            "training": "pixel cross-entropy by AdamW, cosine to zero, standardised tokens",
            **asdict(self),
        }


@dataclass(frozen=True)
class FittedConvHead:
    """A head, and the mean and deviation float32 [D] of the tokens that it saw.

    losses: before each step, float32 [steps].
    """

    cfg: ConvHeadConfig
    params: training.Tree
    mean: np.ndarray
    scale: np.ndarray
    losses: np.ndarray

    def standard(self, patches: np.ndarray) -> np.ndarray:
        """Tokens [..., D] less the mean, over the deviation."""
        return _standard(patches, self.mean, self.scale)


def fit_head(
    patches: np.ndarray,
    masks: np.ndarray,
    num_classes: int,
    *,
    seed: int,
    mesh: Mesh,
    how: ConvTraining | None = None,
) -> FittedConvHead:
    """Head for patch tokens [n,N,D] and masks uint8 [n,H,W] (IGNORE = unknown).

    Every process hands over the same arrays. Raises UserError where no pixel is labelled, or a
    label is not in [0, num_classes).
    """
    how = how or ConvTraining()
    seg.check_labels(masks, num_classes)
    if (masks == seg.IGNORE).all():
        raise UserError(f"segmentation masks hold no labelled pixel (all are {seg.IGNORE})")
    size = masks.shape[1:]
    cfg = ConvHeadConfig(patches.shape[2], num_classes, how.width, how.stages)
    graph, grid = functional.structure(lambda rngs: ConvHead(cfg, rngs)), _grid(patches, size)
    mean, scale = _moments(patches)
    order = Epochs((seed, _ORDER), len(patches))

    def sample(draw: int) -> tuple[np.ndarray, np.ndarray]:
        row = order(draw)
        return _standard(grid[row], mean, scale), masks[row]

    def loss(params, _, batch, __) -> jax.Array:
        head = functional.bind(graph, params)
        return training.pixel_loss(head(batch["inputs"], size), batch["masks"])

    rate = training.rates("cosine", how.learning_rate, warmup=0, steps=how.steps)
    params, losses = training.fit(
        loss,
        _start(cfg, seed),
        {},
        training.batches(sample, how.batch, mesh),
        training.adamw(rate, weight_decay=how.weight_decay),
        steps=how.steps,
        seed=seed,
        mesh=mesh,
        label="convolutional head",
    )
    return FittedConvHead(cfg, jax.tree.map(np.asarray, params), mean, scale, losses)


def predict(
    head: FittedConvHead, patches: np.ndarray, size: tuple[int, int], mesh: Mesh
) -> np.ndarray:
    """Class of every pixel, uint8 [n,H,W], from patch tokens [n,N,D]; a chunk at a time."""
    graph, grid = functional.structure(lambda rngs: ConvHead(head.cfg, rngs)), _grid(patches, size)
    chunk = placing.chunk_size(_CHUNK, len(grid), mesh)
    found = []
    for start in range(0, len(grid), chunk):
        rows = np.arange(start, start + chunk).clip(max=len(grid) - 1)
        placed = placing.put(head.standard(grid[rows]), mesh, split=True)
        found.append(
            to_host({"classes": _classes(graph, head.params, placed, size)}, mesh)["classes"]
        )
    return np.concatenate(found)[: len(grid)]


@partial(jax.jit, static_argnums=(0, 3))
def _classes(graph: Any, params: Any, grid: jax.Array, size: tuple[int, int]) -> jax.Array:
    return jnp.argmax(functional.bind(graph, params)(grid, size), axis=-1).astype(jnp.uint8)


def _start(cfg: ConvHeadConfig, seed: int) -> training.Tree:
    key = jax.random.fold_in(jax.random.key(seed), _START)
    return functional.init(lambda rngs: ConvHead(cfg, rngs), key)["params"]


def _moments(patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of tokens [n,N,D], float32 [D]; 1 where a dimension is constant."""
    sums = np.zeros((2, patches.shape[2]))
    for tokens in patches:  # an image at a time: a copy of all would not fit
        wide = tokens.astype(np.float64)
        sums += [wide.sum(axis=0), (wide**2).sum(axis=0)]
    mean, square = sums / (len(patches) * patches.shape[1])
    scale = np.sqrt(np.maximum(square - mean**2, 0))
    return mean.astype(np.float32), np.where(scale > 1e-6, scale, 1.0).astype(np.float32)


def _standard(patches: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return ((patches - mean) / scale).astype(np.float32)


def _grid(patches: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """[n,N,D] as maps [n,h,w,D]."""
    rows, columns = seg.grid_of(patches.shape[1], (size[0], size[1]))
    return patches.reshape(len(patches), rows, columns, -1)
