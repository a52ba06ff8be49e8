"""A stack of transformer blocks, the trunk of every tower."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from rsvl_jax.errors import UserError
from rsvl_jax.models import attention, backend
from rsvl_jax.models.layers import (
    LayerNorm,
    Linear,
    activation,
    normal,
    param,
    product,
    variables,
    zeros,
)
from rsvl_jax.parallel.sharding import rows

# Values of a layer that remat can keep, per token and layer: 3 D, D, D and the MLP's width. To
# recompute "attention" costs most for its size, the others cost alike.
KEPT = ("qkv", "attention", "residual", "hidden")
DTYPES = ("float32", "bfloat16")
NORMS = ("pre", "post")
LAYER_SCALE = 1e-5  # at initialisation, DINOv2's
CPU_SLICES = 4


class Encoded(NamedTuple):
    """What an encoder returns: `hidden` before its final layer norm, `tokens` after, [B, S, D]."""

    hidden: jax.Array
    tokens: jax.Array


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and ways of running of a stack. Parameters are the same whatever the way of running.

    activation: "gelu" (erf), "gelu_tanh", "quick_gelu" · scan: one compiled block run `depth`
    times, else `depth` copies (longer to compile) · remat: what is kept for the backward pass, the
    rest being computed again: "none" (no remat: all is kept), "full" (only what enters a layer),
    names of KEPT joined by "+" ("matmuls": all of them), or a policy of `jax.checkpoint_policies` ·
    attention: see `attention.IMPLEMENTATIONS` · slices: independent parts of the batch inside a
    layer, 0 to choose by kind of device · dtype: of matmuls and activations; parameters, layer
    norms and softmax are float32 · init_std: of the weights at initialisation.

    norm: "pre", before attention and MLP; "post", after each is added, as in BERT, whose output
    needs no final norm · layer_scale: a learned factor for each channel of what attention and MLP
    add (arXiv:2103.17239), as in DINOv2.
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
    slices: int = 0
    dtype: str = "float32"
    init_std: float = 0.02
    norm: str = "pre"
    layer_scale: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise UserError(f"width {self.width} is not divisible by heads {self.heads}")
        if self.dtype not in DTYPES:
            raise UserError(f"unknown dtype {self.dtype!r}: choose one of {DTYPES}")
        if self.norm not in NORMS:
            raise UserError(f"unknown norm {self.norm!r}: choose one of {NORMS}")
        activation(self.activation)
        attention.resolve(self.attention)
        remat_policy(self.remat)


def remat_policy(name: str) -> Callable[..., Any] | None:
    """What `jax.checkpoint` saves, by name as in TransformerConfig.remat; None for "none"."""
    policies = [known for known in dir(jax.checkpoint_policies) if known.endswith("saveable")]
    names = KEPT if name == "matmuls" else name.split("+")
    if name == "none":
        return None
    if set(names) <= set(KEPT):
        return jax.checkpoint_policies.save_only_these_names(*names)
    if name != "full" and name not in policies:
        known = ["none", "full", "matmuls", "+".join(KEPT), *policies]
        raise UserError(f"unknown remat policy {name!r}: choose one of {known}")
    return getattr(jax.checkpoint_policies, "nothing_saveable" if name == "full" else name)


def linear(
    cfg: TransformerConfig, rngs: nnx.Rngs, din: int, dout: int, axes: tuple[str, str]
) -> Linear:
    """A linear layer as those of the stack: its weights' spread, its dtype."""
    return Linear(din, dout, rngs, axes=axes, init=normal(cfg.init_std), dtype=cfg.dtype)


class Attention(nnx.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, cfg: TransformerConfig, rngs: nnx.Rngs):
        self.cfg = cfg
        # Heads before q, k, v: merged into one dimension, it still splits between heads.
        shape = (cfg.width, cfg.heads, 3, cfg.width // cfg.heads)
        axes = ("embed", "heads", None, "head_dim")
        self.qkv = param(rngs, normal(cfg.init_std), shape, axes)
        self.qkv_bias = param(rngs, zeros, shape[1:], axes[1:])
        self.out = linear(cfg, rngs, cfg.width, cfg.width, ("heads", "embed"))

    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        kernel = self.qkv.astype(x.dtype).reshape(x.shape[-1], -1)
        qkv = product(x, kernel).reshape(*x.shape[:-1], *self.qkv_bias.shape)
        parts = zip(_split(qkv, 3), _split(self.qkv_bias.astype(x.dtype), 1), strict=True)
        q, k, v = (part + bias for part, bias in parts)
        return self.out(attention.attend(q, k, v, mask, self.cfg.attention).reshape(x.shape))


class Mlp(nnx.Module):
    """Linear, activation, linear."""

    def __init__(self, cfg: TransformerConfig, rngs: nnx.Rngs):
        self.activation = cfg.activation
        self.up = linear(cfg, rngs, cfg.width, cfg.mlp_dim, ("embed", "mlp"))
        self.down = linear(cfg, rngs, cfg.mlp_dim, cfg.width, ("mlp", "embed"))

    def __call__(self, x: jax.Array) -> jax.Array:
        # What is kept is the product without its bias, which the activation adds on the way.
        assert self.up.bias is not None
        hidden = checkpoint_name(self.up.product(x), "hidden") + self.up.bias.astype(x.dtype)
        return self.down(activation(self.activation)(hidden))


class Block(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout on both branches when given a key.

    With `norm` "post": norm(x + attention(x)), then norm(x + mlp(x)).
    """

    def __init__(self, cfg: TransformerConfig, rngs: nnx.Rngs):
        self.dropout = cfg.dropout
        self.post = cfg.norm == "post"
        self.attention_norm = LayerNorm(cfg.width, rngs, eps=cfg.ln_eps)
        self.attention = Attention(cfg, rngs)
        self.mlp_norm = LayerNorm(cfg.width, rngs, eps=cfg.ln_eps)
        self.mlp = Mlp(cfg, rngs)
        self.attention_scale = _layer_scale(cfg, rngs)
        self.mlp_scale = _layer_scale(cfg, rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None, rng: jax.Array | None) -> jax.Array:
        keys = (None, None) if rng is None else jax.random.split(rng)
        y = self.attention(x if self.post else self.attention_norm(x), mask)
        x = x + dropout(_scaled(y, self.attention_scale), self.dropout, keys[0])
        x = checkpoint_name(self.attention_norm(x) if self.post else x, "residual")
        y = self.mlp(x if self.post else self.mlp_norm(x))
        x = x + dropout(_scaled(y, self.mlp_scale), self.dropout, keys[1])
        return self.mlp_norm(x) if self.post else x


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
        return self._run(self.layers, x, mask, keys)

    def after(self, x: jax.Array, depths: Sequence[int]) -> list[jax.Array]:
        """What x [B, S, D] is after the first so many blocks, for each of `depths`, which rise."""
        found = []
        for first, last in itertools.pairwise([0, *depths]):
            x = self._run(jax.tree.map(itemgetter(slice(first, last)), self.layers), x)
            found.append(x)
        return found

    def _run(
        self, layers: Block, x: jax.Array, mask: jax.Array | None = None, keys: Any = None
    ) -> jax.Array:
        """Through stacked blocks."""
        count = 1 if keys is not None else self._slices(x.shape[0])
        masks = [None] * count if mask is None else jnp.split(mask, count)

        def body(parts: list[jax.Array], layer: tuple[Block, Any]) -> tuple[list[jax.Array], None]:
            block, key = layer
            return [rows(block(x, mask, key)) for x, mask in zip(parts, masks, strict=True)], None

        policy = remat_policy(self.cfg.remat)
        if policy is not None:
            body = jax.checkpoint(body, policy=policy, prevent_cse=not self.cfg.scan)
        parts = jnp.split(rows(x.astype(self.cfg.dtype)), count)
        if self.cfg.scan:
            parts, _ = jax.lax.scan(body, parts, (layers, keys))
        else:
            for layer in _unstack((layers, keys)):
                parts, _ = body(parts, layer)
        return parts[0] if count == 1 else jnp.concatenate(parts)

    def _slices(self, batch: int) -> int:
        """Into how many parts the batch is cut.

        XLA:CPU runs most operations on one thread each, but independent ones side by side: so a
        lone CPU device gets several. Elsewhere, and where the batch is sharded, cutting only hurts.
        """
        wanted = self.cfg.slices or (CPU_SLICES if backend.lone_cpu() else 1)
        return next(count for count in range(wanted, 0, -1) if batch % count == 0)


def _layer_scale(cfg: TransformerConfig, rngs: nnx.Rngs) -> nnx.Param | None:
    if not cfg.layer_scale:
        return None
    return param(rngs, lambda _, shape: jnp.full(shape, LAYER_SCALE), (cfg.width,), (None,))


def _scaled(x: jax.Array, scale: nnx.Param | None) -> jax.Array:
    return x if scale is None else x * scale.astype(x.dtype)


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


def _unstack(tree: Any) -> list[Any]:
    """The layers of a stacked tree."""
    leaves, treedef = jax.tree.flatten(tree)
    columns = [_split(leaf, 0) for leaf in leaves]
    return [jax.tree.unflatten(treedef, row) for row in zip(*columns, strict=True)]


def _split(x: jax.Array, axis: int) -> list[jax.Array]:
    """x[..., i, ...] for every i. Its gradient is one concatenation, not a sum of padded arrays."""
    return [part.squeeze(axis) for part in jax.lax.split(x, [1] * x.shape[axis], axis)]
