"""A stack of pre-LN transformer blocks, the trunk of every tower."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rsvl_jax.errors import UserError
from rsvl_jax.models import attention
from rsvl_jax.models.layers import LayerNorm, Linear, activation, normal, param, variables, zeros

DTYPES = ("float32", "bfloat16")


class Encoded(NamedTuple):
    """What an encoder returns: `hidden` before its final layer norm, `tokens` after, [B, S, D]."""

    hidden: jax.Array
    tokens: jax.Array


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and ways of running of a stack. Parameters are the same whatever the way of running.

    activation: "gelu" (erf), "gelu_tanh", "quick_gelu" · scan: one compiled block run `depth`
    times, else `depth` copies (longer to compile) · remat: "none", "full", or the name of a policy
    in `jax.checkpoint_policies` · attention: see `attention.IMPLEMENTATIONS` · dtype: of matmuls
    and activations; parameters, layer norms and softmax are float32.
    """

    width: int
    depth: int
    heads: int
    mlp_dim: int
    activation: str = "gelu"
    ln_eps: float = 1e-12
    dropout: float = 0.0
    scan: bool = True
    remat: str = "none"
    attention: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.dtype not in DTYPES:
            raise UserError(f"unknown dtype {self.dtype!r}: choose one of {DTYPES}")
        activation(self.activation)
        attention.resolve(self.attention, jnp.dtype(self.dtype))
        remat_policy(self.remat)


def remat_policy(name: str) -> Callable[..., Any] | None:
    """The policy of `jax.checkpoint_policies` by name ("full": nothing saved); None for "none"."""
    if name == "none":
        return None
    policy = getattr(jax.checkpoint_policies, "nothing_saveable" if name == "full" else name, None)
    if policy is None:
        known = [known for known in dir(jax.checkpoint_policies) if known.endswith("saveable")]
        raise UserError(f"unknown remat policy {name!r}: choose none, full or one of {known}")
    return policy


class Attention(nnx.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, cfg: TransformerConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        shape = (cfg.width, 3, cfg.heads, cfg.width // cfg.heads)
        axes = ("embed", None, "heads", "head_dim")
        self.qkv = param(rngs, normal(), shape, axes)
        self.qkv_bias = param(rngs, zeros, shape[1:], axes[1:])
        self.out = Linear(cfg.width, cfg.width, rngs, axes=("heads", "embed"), dtype=cfg.dtype)

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        qkv = jnp.einsum("bsd,dchk->cbshk", x, self.qkv.astype(x.dtype))
        qkv += self.qkv_bias[:, None, None].astype(x.dtype)
        y = attention.attend(*qkv, mask, self.cfg.attention)
        return self.out(y.reshape(x.shape))


class Mlp(nnx.Module):
    """Linear, activation, linear."""

    def __init__(self, cfg: TransformerConfig, rngs: nnx.Rngs):
        self.activation = cfg.activation
        self.up = Linear(cfg.width, cfg.mlp_dim, rngs, axes=("embed", "mlp"), dtype=cfg.dtype)
        self.down = Linear(cfg.mlp_dim, cfg.width, rngs, axes=("mlp", "embed"), dtype=cfg.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(activation(self.activation)(self.up(x)))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout on both branches when given a key."""

    def __init__(self, cfg: TransformerConfig, rngs: nnx.Rngs):
        self.dropout = cfg.dropout
        self.attention_norm = LayerNorm(cfg.width, rngs, eps=cfg.ln_eps)
        self.attention = Attention(cfg, rngs)
        self.mlp_norm = LayerNorm(cfg.width, rngs, eps=cfg.ln_eps)
        self.mlp = Mlp(cfg, rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None, rng: jax.Array | None) -> jax.Array:
        keys = (None, None) if rng is None else jax.random.split(rng)
        x = x + dropout(self.attention(self.attention_norm(x), mask), self.dropout, keys[0])
        return x + dropout(self.mlp(self.mlp_norm(x)), self.dropout, keys[1])


class Stack(nnx.Module):
    """`depth` blocks whose parameters are stacked: [depth, ...], logical axis "layers" first."""

    def __init__(self, cfg: TransformerConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        self.layers = jax.vmap(lambda key: _layer(cfg, key))(
            jax.random.split(rngs.params(), cfg.depth)
        )

    def __call__(
        self, x: jax.Array, mask: jax.Array | None = None, *, rng: jax.Array | None = None
    ) -> jax.Array:
        """x [B, S, D], mask bool [B, S] (True: a real token) -> [B, S, D] in the compute dtype.

        rng: key for dropout; None, or a dropout of 0, means none. Outputs at False positions are
        defined and meaningless.
        """
        keys = None
        if rng is not None and self.cfg.dropout:
            keys = jax.random.split(rng, self.cfg.depth)

        def body(x: jax.Array, layer: tuple[Block, jax.Array | None]) -> tuple[jax.Array, None]:
            return layer[0](x, mask, layer[1]), None

        policy = remat_policy(self.cfg.remat)
        if policy is not None:
            body = jax.checkpoint(body, policy=policy, prevent_cse=not self.cfg.scan)
        x = x.astype(self.cfg.dtype)
        if self.cfg.scan:
            return jax.lax.scan(body, x, (self.layers, keys))[0]
        for layer in _unstack((self.layers, keys), self.cfg.depth):
            x, _ = body(x, layer)
        return x


def dropout(x: jax.Array, rate: float, rng: jax.Array | None) -> jax.Array:
    """Zeroes entries with probability `rate` and scales the others; x itself without a key."""
    if rng is None or not rate:
        return x
    keep = jax.random.bernoulli(rng, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), jnp.zeros((), x.dtype))


def _layer(cfg: TransformerConfig, key: jax.Array) -> Block:
    block = Block(cfg, nnx.Rngs(key))
    for variable in variables(block):
        variable.set_metadata(axes=("layers", *variable.get_metadata("axes")))
    return block


def _unstack(tree: Any, depth: int) -> list[Any]:
    """The layers of a stacked tree. A split, whose gradient is one concatenation, not many pads."""
    leaves, treedef = jax.tree.flatten(tree)
    columns = [[part.squeeze(0) for part in jax.lax.split(leaf, [1] * depth)] for leaf in leaves]
    return [jax.tree.unflatten(treedef, row) for row in zip(*columns, strict=True)]
