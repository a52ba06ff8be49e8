"""Fine-tuning of a ViT with UPerNet for semantic segmentation.

Values that no paper of the field says for SpaceNet 1 are those of mmsegmentation's published recipe
for MAE's ViT-B and UPerNet (configs/mae/upernet_mae-base): AdamW at 1e-4, betas 0.9 and 0.999,
decay 0.05, layer-wise rate 0.65, a straight line to zero after a warm-up, batches of 16, auxiliary
head of weight 0.4, dropout 0.1, windows two thirds of a crop apart. Stochastic depth, resizing and
changes of colour it has and this has not.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation import segmentation_training as training
from rsvl_jax.evaluation.segmentation_crops import Crops
from rsvl_jax.evaluation.segmentation_windows import Windows
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.models import functional
from rsvl_jax.models.convolutions import resized
from rsvl_jax.models.image_tokenizer import unit_range
from rsvl_jax.models.upernet import (
    AUXILIARY,
    LEVELS,
    Segmenter,
    Upernet,
    UpernetConfig,
    spaced,
)
from rsvl_jax.models.vit import VitConfig

Tree = Any
PREDICTIONS = ("slide", "whole")
_START = 3  # in the keys of what is drawn
_COUNTS = {"width": 1, "steps": 1, "batch": 1, "window": 0, "stride": 0, "warmup": -1}


@dataclass(frozen=True)
class Backbone:
    """A ViT by itself.

    Attributes:
      params, frozen: trees of its arrays, what is trained and what never is.
      mean, std: of pixels in [0, 1], three each.
    """

    cfg: VitConfig
    params: Tree
    frozen: Tree
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def fill(self) -> np.ndarray:
        """uint8 [3], the colour that is nothing to the model."""
        return np.round(255 * np.asarray(self.mean)).astype(np.uint8)


@dataclass(frozen=True)
class UpernetTraining:
    """Network, training and prediction.

    Attributes:
      width: of UPerNet. depths: blocks whose states it sees; () for four, evenly spaced.
      dropout: of channels, before classifiers. auxiliary_weight: of the FCN head's loss, 0: none.
      window: pixels a side of the crops that are trained on, a multiple of the patch; 0: the
        model's image size.
      steps: of AdamW. batch: crops a step. learning_rate: the highest. weight_decay: of matrices.
      layer_decay: a block's rate is that of the next times this; 0: 0.65 for ViTs of up to 12
        blocks, else 0.75, as MAE's own fine-tuning has them.
      schedule: "poly" or "cosine". warmup: steps; -1: a twentieth of all.
      frozen: only UPerNet is trained.
      prediction: in windows of that size ("slide"), `stride` apart (0: two thirds), or "whole".
    """

    width: int = 512
    depths: Sequence[int] = ()
    dropout: float = 0.1
    auxiliary_weight: float = 0.4
    window: int = 0
    steps: int = 10_000  # 33 epochs of SpaceNet 1's 4,858 training tiles
    batch: int = 16
    learning_rate: float = 1e-4
    weight_decay: float = 0.05
    layer_decay: float = 0.0
    schedule: str = "poly"
    warmup: int = -1
    frozen: bool = False
    prediction: str = "slide"
    stride: int = 0

    def __post_init__(self) -> None:
        for name, least in _COUNTS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"{name}={value!r} of UPerNet: give a number from {least}")
        for name in ("dropout", "layer_decay", "auxiliary_weight", "learning_rate", "weight_decay"):
            value, most = getattr(self, name), 1 if name in ("dropout", "layer_decay") else np.inf
            if not isinstance(value, int | float) or not 0 <= value <= most:
                raise UserError(f"{name}={value!r} of UPerNet is out of range")
        if not isinstance(self.frozen, bool):
            raise UserError(f"frozen={self.frozen!r} of UPerNet: give true or false")
        if not isinstance(self.depths, list | tuple) or len(self.depths) not in (0, LEVELS):
            raise UserError(f"depths={self.depths!r} of UPerNet: give {LEVELS} numbers of blocks")
        if self.prediction not in PREDICTIONS:
            raise UserError(f"prediction {self.prediction!r}: use {' or '.join(PREDICTIONS)}")

    def settled(self, vit: VitConfig) -> "UpernetTraining":
        """With a value for everything that was left open. Raises UserError for what does not fit
        the ViT."""
        depth, window = vit.transformer.depth, self.window or vit.image_size
        if window % vit.patch_size:
            raise UserError(f"window={window} is no multiple of the patch, {vit.patch_size} pixels")
        values = asdict(self) | {
            "depths": tuple(self.depths) or spaced(depth),
            "window": window,
            "stride": self.stride or -(-window * 2 // 3),
            "layer_decay": self.layer_decay or (0.65 if depth <= 12 else 0.75),
            "warmup": self.steps // 20 if self.warmup < 0 else self.warmup,
        }
        return UpernetTraining(**values)


@dataclass(frozen=True)
class Tuned:
    """A network after its training.

    Attributes:
      how: settled. params: of encoder and decoder, on the mesh. losses: float32 [steps].
      logits: uint8 [B,h,w,3] on the mesh -> float32 [B,h,w,C].
    """

    how: UpernetTraining
    params: Tree
    losses: np.ndarray
    logits: Callable[[jax.Array], jax.Array]
    windows: Windows


def fine_tune(
    backbone: Backbone, of: Collection, how: UpernetTraining, *, seed: int, mesh: Mesh
) -> Tuned:
    """Trains UPerNet, and the ViT with it, on the images and masks of a collection.

    Images are read as they are needed; the same seed gives the same crops, whatever the mesh.
    Raises UserError for options that do not fit, and what reading raises.
    """
    how = how.settled(backbone.cfg)
    cfg = UpernetConfig(
        classes=len(of.pixel_classes),
        width=how.width,
        depths=tuple(how.depths),
        dropout=how.dropout,
        auxiliary=AUXILIARY if how.auxiliary_weight else 0,
    )
    graph = functional.structure(lambda rngs: Segmenter(backbone.cfg, cfg, rngs))
    decoder = _decoder(cfg, backbone.cfg, seed)
    trained, fixed = {"decoder": decoder}, {"params": {}, "frozen": {"encoder": backbone.frozen}}
    (fixed["params"] if how.frozen else trained)["encoder"] = backbone.params
    rate = training.rates(how.schedule, how.learning_rate, warmup=how.warmup, steps=how.steps)
    scales = {"decoder": jax.tree.map(lambda _: 1.0, decoder)}
    if not how.frozen:
        depth = backbone.cfg.transformer.depth
        scales["encoder"] = layer_scales(backbone.params, depth, how.layer_decay)
    trained, losses = training.fit(
        partial(_loss, graph, backbone, how),
        trained,
        fixed,
        training.batches(Crops(of, how.window, backbone.fill, seed), how.batch, mesh),
        training.adamw(rate, weight_decay=how.weight_decay, scales=scales),
        steps=how.steps,
        seed=seed,
        mesh=mesh,
        label="UPerNet",
    )
    params = trained | training.put(fixed["params"], mesh)
    frozen = training.put(fixed["frozen"], mesh)
    logits = partial(jax.jit(partial(_logits, graph, backbone)), params, frozen)
    return Tuned(how, params, losses, logits, _windows(how, backbone))


def layer_scales(params: Tree, depth: int, rate: float) -> Tree:
    """Factor of the learning rate of each array of a ViT: rate^(depth + 1 - l), l = 0 for what
    comes before the blocks and 1 to `depth` for a block; UPerNet's is 1.

    A tree like `params`; arrays [depth, 1, ...] where blocks are stacked. Source: BEiT's and
    mmsegmentation's LayerDecayOptimizerConstructor. The last norm, which nothing sees, has 1.
    """

    def scale(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.startswith("stack/layers/"):
            own = rate ** np.arange(depth, 0, -1, dtype=np.float32)
            return own.reshape(-1, *[1] * (leaf.ndim - 1))
        return 1.0 if name.startswith("norm/") else rate ** (depth + 1)

    return jax.tree_util.tree_map_with_path(scale, params)


def _decoder(cfg: UpernetConfig, vit: VitConfig, seed: int) -> Tree:
    key = jax.random.fold_in(jax.random.key(seed), _START)
    return functional.init(lambda rngs: Upernet(cfg, vit.transformer.width, rngs), key)["params"]


def _windows(how: UpernetTraining, backbone: Backbone) -> Windows:
    size = how.window if how.prediction == "slide" else 0
    return Windows(size, how.stride, backbone.cfg.patch_size, backbone.fill)


def _normal(backbone: Backbone, images: jax.Array) -> jax.Array:
    return (unit_range(images) - jnp.asarray(backbone.mean)) / jnp.asarray(backbone.std)


def _loss(
    graph: Any,
    backbone: Backbone,
    how: UpernetTraining,
    trained: Tree,
    fixed: Tree,
    batch: training.Batch,
    key: jax.Array,
) -> jax.Array:
    network = functional.bind(graph, fixed["params"] | trained, fixed["frozen"])
    images, masks = _normal(backbone, batch["inputs"]), batch["masks"]
    logits, auxiliary = network(images, key, frozen=how.frozen)
    size = (masks.shape[1], masks.shape[2])
    loss = training.pixel_loss(resized(logits, size), masks)
    if auxiliary is None:
        return loss
    return loss + how.auxiliary_weight * training.pixel_loss(resized(auxiliary, size), masks)


def _logits(graph: Any, backbone: Backbone, params: Tree, frozen: Tree, images: jax.Array) -> Any:
    network = functional.bind(graph, params, frozen)
    logits, _ = network(_normal(backbone, images))
    return resized(logits, (images.shape[1], images.shape[2]))
