"""Convolutions over maps of features [B, H, W, C], and the small decoder that is made of them.

Norms are over groups of channels of one image (arXiv:1803.08494), where the field's decoders have
batch norm: what an image becomes then depends on no other image, on no running mean, and on neither
the batch nor the number of devices.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

GROUPS = 32  # at most; as the paper on group norm has them
_HE = nnx.initializers.he_normal()


class ConvNorm(nnx.Module):
    """Convolution without bias, group norm, ReLU: [B, H, W, din] -> [B, H, W, dout]."""

    def __init__(self, din: int, dout: int, kernel: int, rngs: nnx.Rngs):
        size = (kernel, kernel)
        self.conv = nnx.Conv(din, dout, size, use_bias=False, kernel_init=_HE, rngs=rngs)
        self.norm = group_norm(dout, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.relu(self.norm(self.conv(x)))


def group_norm(width: int, rngs: nnx.Rngs) -> nnx.GroupNorm:
    """Over the largest number of groups, GROUPS at most, that divides the channels.

    Groups have four channels or more: of a map of one place, as pyramid pooling has, a norm over
    one channel would leave nothing.
    """
    most = min(GROUPS, max(1, width // 4))
    groups = next(count for count in range(most, 0, -1) if width % count == 0)
    return nnx.GroupNorm(width, num_groups=groups, epsilon=1e-5, rngs=rngs)


def classifier(width: int, classes: int, rngs: nnx.Rngs) -> nnx.Conv:
    """A linear map of each place, [B, H, W, width] -> logits [B, H, W, classes]."""
    start = nnx.initializers.normal(0.01)  # mmsegmentation's: all classes alike at first
    return nnx.Conv(width, classes, (1, 1), kernel_init=start, rngs=rngs)


def resized(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """[B, H, W, C] bilinearly to [B, *size, C]: pixel centres at half positions, edges clamped."""
    return jax.image.resize(x, (len(x), *size, x.shape[-1]), "bilinear", antialias=False)


@dataclass(frozen=True)
class ConvHeadConfig:
    """tokens: their dimension · classes · width: of the convolutions · stages: how many there are,
    each followed by an upsampling to twice the size."""

    tokens: int
    classes: int
    width: int
    stages: int


class ConvHead(nnx.Module):
    """3x3 convolution, norm, ReLU and twice the size, `stages` times; then a linear classifier."""

    def __init__(self, cfg: ConvHeadConfig, rngs: nnx.Rngs):
        widths = [cfg.tokens, *[cfg.width] * cfg.stages]
        pairs = zip(widths[:-1], widths[1:], strict=True)
        self.stages = nnx.List([ConvNorm(din, dout, 3, rngs) for din, dout in pairs])
        self.classifier = classifier(cfg.width, cfg.classes, rngs)

    def __call__(self, grid: jax.Array, size: tuple[int, int]) -> jax.Array:
        """Tokens as a map, float [B, h, w, D] -> logits float32 [B, *size, C]."""
        x = grid
        for stage in self.stages:
            x = stage(x)
            x = resized(x, (2 * x.shape[1], 2 * x.shape[2]))
        return resized(self.classifier(x).astype(jnp.float32), size)
