"""Scaled dot-product attention, one function with an implementation for each kind of device."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from rsvl_jax.errors import UserError
from rsvl_jax.models import backend

IMPLEMENTATIONS = ("auto", "dot", "xla", "cudnn")
Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array, jax.Array]


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, implementation: str = "auto"
) -> jax.Array:
    """softmax(q k^T / sqrt(d)) v per head, softmax in float32.

    q, k, v [B, S, H, d]; mask bool of the keys that may be looked at, [B, S], or [B, S, S] where
    that differs between queries, None for all. Returns [B, S, H, d] in the dtype of q. Every row
    of the mask needs a True.
    """
    name = resolve(implementation)
    if mask is not None and mask.ndim == 2:
        mask = mask[:, None, :]
    if name == "dot":
        return _dot(*(checkpoint_name(x.swapaxes(1, 2), "qkv") for x in (q, k, v)), mask)
    keys = None if mask is None else mask[:, None]
    q, k, v = (checkpoint_name(x, "qkv") for x in (q, k, v))
    chosen: Any = name  # a literal type to the checker
    out = jax.nn.dot_product_attention(q, k, v, mask=keys, implementation=chosen)
    return checkpoint_name(out, "attention")


def resolve(implementation: str) -> str:
    """The implementation to run: "auto" by kind of device. UserError for unknown names.

    "cudnn" (bfloat16 on recent NVIDIA GPUs) is never chosen unasked: it refuses some shapes.
    """
    if implementation not in IMPLEMENTATIONS:
        raise UserError(f"unknown attention {implementation!r}: choose one of {IMPLEMENTATIONS}")
    if implementation != "auto":
        return implementation
    return "dot" if backend.kind() == "cpu" else "xla"


@jax.custom_vjp
def _dot(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
    """[B, H, S, d] three times, mask [B, 1 or S, S] -> [B, S, H, d].

    Batched products in the layout that XLA:CPU likes. The backward pass computes the weights again
    from the rows' log-sum-exp, as flash attention does, so that no [S, S] array outlives a layer.
    """
    return _dot_forward(q, k, v, mask)[0]


def _dot_forward(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None
) -> tuple[jax.Array, Residuals]:
    logits = _product("bhsd,bhtd->bhst", q * q.shape[-1] ** -0.5, k)
    if mask is not None:
        logits += _bias(mask)[:, None]
    peak = logits.max(-1, keepdims=True)
    weights = jnp.exp(logits - peak)
    total = weights.sum(-1, keepdims=True)
    # Divided after the product: S*d divisions a head instead of S*S.
    out = _product("bhst,bhtd->bhsd", weights.astype(v.dtype), v) / total
    out = checkpoint_name(out.astype(q.dtype).swapaxes(1, 2), "attention")
    logsumexp = checkpoint_name((peak + jnp.log(total)).squeeze(-1), "attention")
    return out, (q, k, v, mask, out, logsumexp)


def _dot_backward(
    residuals: Residuals, dout: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    q, k, v, mask, out, logsumexp = residuals
    scale, dtype = q.shape[-1] ** -0.5, q.dtype
    delta = (dout.astype(jnp.float32) * out).sum(-1).swapaxes(1, 2)
    dout = dout.swapaxes(1, 2)
    q = q * scale
    # Everything transposed, [t, s]: then only dq has to read its big operand against the grain.
    logits = _product("bhtd,bhsd->bhts", k, q)
    if mask is not None:
        logits += _bias(mask).swapaxes(1, 2)[:, None]
    weights = jnp.exp(logits - logsumexp[:, :, None, :])
    dlogits = weights * (_product("bhtd,bhsd->bhts", v, dout) - delta[:, :, None, :])
    weights, dlogits = weights.astype(dtype), dlogits.astype(dtype)
    dv = _product("bhts,bhsd->bhtd", weights, dout)
    dk = _product("bhts,bhsd->bhtd", dlogits, q)
    dq = _product("bhts,bhtd->bhsd", dlogits, k) * scale
    return dq.astype(dtype), dk.astype(dtype), dv.astype(dtype), None


def _bias(mask: jax.Array) -> jax.Array:
    """0 where a key may be seen, else the lowest number. Added, it joins the loops around it."""
    return jnp.where(mask, 0.0, jnp.finfo(jnp.float32).min)


def _product(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(equation, a, b, preferred_element_type=jnp.float32)


_dot.defvjp(_dot_forward, _dot_backward)
