"""Dense layers, layer norm, initialisers, activations: what every network here is made of."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.errors import UserError
from rsvl_jax.models import backend
from rsvl_jax.parallel.sharding import rows

Axes = Sequence[str | None]
Init = Callable[[jax.Array, Sequence[int]], jax.Array]


def gelu(x: jax.Array) -> jax.Array:
    """x * Phi(x), exact, computed in float32.

    By erf, as PyTorch does: `jax.nn.gelu` takes erfc, for relative accuracy in a tail that no
    network sees, which costs twice the time on a CPU.
    """
    y = x.astype(jnp.float32)
    return (0.5 * y * (1 + jax.lax.erf(y * math.sqrt(0.5)))).astype(x.dtype)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # OpenAI CLIP's
}


class Frozen(nnx.Variable):
    """An array that is used and never optimised."""


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The function of that name, elementwise. Raises UserError for an unknown one."""
    if name not in ACTIVATIONS:
        raise UserError(f"unknown activation {name!r}: choose one of {sorted(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def normal(std: float = 0.02) -> Init:
    """N(0, std^2), as FLAVA and BERT initialise every linear and embedding weight."""
    return lambda key, shape: std * jax.random.normal(key, shape, jnp.float32)


def uniform(bound: float) -> Init:
    """U(-bound, bound)."""
    return lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def zeros(key: jax.Array, shape: Sequence[int]) -> jax.Array:
    """All zeros; takes a key to look like its siblings."""
    return jnp.zeros(shape, jnp.float32)


def param(rngs: nnx.Rngs, init: Init, shape: Sequence[int], axes: Axes) -> nnx.Param:
    """A trainable float32 array with one logical axis name (or None) a dimension."""
    return nnx.Param(init(rngs.params(), tuple(shape)), axes=tuple(axes))


def variables(module: nnx.Module) -> list[nnx.Variable]:
    """All variables of a module, without their paths."""
    leaves = jax.tree.leaves(module, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    return [leaf for leaf in leaves if isinstance(leaf, nnx.Variable)]


@jax.custom_vjp
def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., din] @ kernel [din, dout] -> [..., dout].

    With a gradient of its own: what JAX derives for the kernel makes XLA:CPU copy the transpose of
    the whole cotangent first, a tenth of a layer's time.
    """
    return x @ kernel


def _product_forward(
    x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ kernel, (x, kernel)


def _product_backward(
    residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = residuals
    rows = tuple(range(x.ndim - 1))
    dx = jax.lax.dot_general(dy, kernel, (((x.ndim - 1,), (1,)), ((), ())))
    if backend.kind() == "cpu" and kernel.shape[0] > kernel.shape[1]:
        # XLA:CPU is a fifth faster where the narrow operand comes first. Without the barrier the
        # compiler would swap them back to save transposing the small result.
        swapped = jax.lax.dot_general(dy, x, ((rows, rows), ((), ())))
        return dx, jax.lax.optimization_barrier(swapped).T
    return dx, jax.lax.dot_general(x, dy, ((rows, rows), ((), ())))


product.defvjp(_product_forward, _product_backward)


class Linear(nnx.Module):
    """x [..., din] -> x @ kernel + bias [..., dout], computed in `dtype`."""

    def __init__(
        self,
        din: int,
        dout: int,
        rngs: nnx.Rngs,
        *,
        axes: Axes = ("embed", "mlp"),
        bias: bool = True,
        init: Init | None = None,
        bias_init: Init = zeros,
        dtype: Any = jnp.float32,
    ):
        self.dtype = jnp.dtype(dtype)
        self.kernel = param(rngs, init or normal(), (din, dout), axes)
        # A bias follows its output only where that is split, else it is too small to be worth it.
        split = axes[-1] if axes[-1] != "embed" else None
        self.bias = param(rngs, bias_init, (dout,), (split,)) if bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.product(x)
        return y if self.bias is None else y + self.bias.astype(self.dtype)

    def product(self, x: jax.Array) -> jax.Array:
        """x @ kernel, without the bias."""
        return product(x.astype(self.dtype), self.kernel.astype(self.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """(x - mean) / sqrt(variance + eps) * scale + bias over the last dimension, in float32."""
    return _layer_norm_forward(x, scale, bias, eps)[0]


def _normalise(x: jax.Array, eps: float) -> tuple[jax.Array, jax.Array]:
    centred = x.astype(jnp.float32) - x.astype(jnp.float32).mean(-1, keepdims=True)
    rate = jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + eps)
    return centred * rate, rate


def _layer_norm_forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return (_normalise(x, eps)[0] * scale + bias).astype(x.dtype), (x, scale)


def _layer_norm_backward(
    eps: float, residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale = residuals
    normal, rate = _normalise(x, eps)
    rows = tuple(range(x.ndim - 1))
    dy = dy.astype(jnp.float32)
    dnormal = dy * scale
    mean, slope = dnormal.mean(-1, keepdims=True), (dnormal * normal).mean(-1, keepdims=True)
    dx = rate * (dnormal - mean - normal * slope)
    return dx.astype(x.dtype), (dy * normal).sum(rows), dy.sum(rows)


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


class LayerNorm(nnx.Module):
    """Normalises the last dimension in float32, whatever the dtype of x, and returns that dtype."""

    def __init__(self, width: int, rngs: nnx.Rngs, *, eps: float):
        self.eps = eps
        self.scale = param(rngs, lambda _, shape: jnp.ones(shape, jnp.float32), (width,), (None,))
        self.bias = param(rngs, zeros, (width,), (None,))

    def __call__(self, x: jax.Array) -> jax.Array:
        return rows(layer_norm(x, self.scale[...], self.bias[...], self.eps))
