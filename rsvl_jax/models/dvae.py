"""The encoder of DALL-E's discrete VAE (openai/DALL-E), FLAVA's image tokenizer; always frozen."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.models.image_tokenizer import unit_range
from rsvl_jax.models.layers import Frozen
from rsvl_jax.models.vit import CHANNELS

WIDTH = 256
GROUPS = 4
BLOCKS = 2
VOCAB = 8192
LOGIT_LAPLACE_EPS = 0.1


class Conv(nnx.Module):
    """Convolution, stride 1, same padding; kernel [k, k, din, dout]."""

    def __init__(self, size: int, din: int, dout: int, rngs: nnx.Rngs):
        std = 1 / math.sqrt(din * size * size)
        draw = std * jax.random.normal(rngs.params(), (size, size, din, dout))
        self.kernel = Frozen(draw, axes=(None, None, "embed", "mlp"))
        self.bias = Frozen(jnp.zeros(dout), axes=("mlp",))

    def __call__(self, x: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        kernel = self.kernel[...]
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
        return y + self.bias[...]


class Block(nnx.Module):
    """identity + (relu, conv) x 4 / layers^2, a quarter as wide inside; widths 3, 3, 3, 1."""

    def __init__(self, din: int, dout: int, rngs: nnx.Rngs):
        inner = dout // 4
        self.identity = Conv(1, din, dout, rngs) if din != dout else None
        self.conv_1 = Conv(3, din, inner, rngs)
        self.conv_2 = Conv(3, inner, inner, rngs)
        self.conv_3 = Conv(3, inner, inner, rngs)
        self.conv_4 = Conv(1, inner, dout, rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x
        for conv in (self.conv_1, self.conv_2, self.conv_3, self.conv_4):
            y = conv(jax.nn.relu(y))
        skip = x if self.identity is None else self.identity(x)
        return skip + y / (GROUPS * BLOCKS) ** 2


class DalleEncoder(nnx.Module):
    """Images to 8192 visual words, one for every 8x8 pixels at `image_size`.

    image_size: side to which images are brought first (Lanczos); FLAVA takes 112 for 14x14 tokens.
    width, vocab_size: others than the published encoder's.
    """

    def __init__(
        self, image_size: int, rngs: nnx.Rngs, *, width: int = WIDTH, vocab_size: int = VOCAB
    ):
        self.image_size = image_size
        self.stem = Conv(7, CHANNELS, width, rngs)
        din = width
        for group in range(GROUPS):
            dout = width * 2**group
            for block in range(BLOCKS):
                setattr(self, f"group_{group + 1}_block_{block + 1}", Block(din, dout, rngs))
                din = dout
        self.out = Conv(1, din, vocab_size, rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        """images uint8 or float in [0, 1], [B, H, W, 3] -> ids int32 [B, (image_size/8)^2]."""
        return jnp.argmax(self.logits(images), axis=-1).reshape(images.shape[0], -1)

    def logits(self, images: jax.Array) -> jax.Array:
        """-> float32 [B, image_size/8, image_size/8, vocab_size], unnormalised."""
        x = unit_range(images)
        size = (x.shape[0], self.image_size, self.image_size, CHANNELS)
        if x.shape != size:
            x = jnp.clip(jax.image.resize(x, size, "lanczos3"), 0, 1)
        # Logit-Laplace pixels: kept away from 0 and 1, where that distribution has no density.
        x = self.stem((1 - 2 * LOGIT_LAPLACE_EPS) * x + LOGIT_LAPLACE_EPS)
        for group in range(1, GROUPS + 1):
            for block in range(1, BLOCKS + 1):
                x = getattr(self, f"group_{group}_block_{block}")(x)
            if group < GROUPS:
                x = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4))
        return self.out(jax.nn.relu(x))
