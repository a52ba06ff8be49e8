"""Scaled dot-product attention, one function with an implementation for each kind of device."""

import jax
import jax.numpy as jnp

from rsvl_jax.errors import UserError

IMPLEMENTATIONS = ("auto", "dot", "xla", "cudnn")


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None, implementation: str = "auto"
) -> jax.Array:
    """softmax(q k^T / sqrt(d)) v per head, softmax in float32.

    q, k, v [B, S, H, d]; mask bool [B, S] of the keys that may be looked at, None for all.
    Returns [B, S, H, d] in the dtype of q. Every row of the mask needs a True.
    """
    name = resolve(implementation, q.dtype)
    if name == "dot":
        return _dot(q, k, v, mask)
    keys = None if mask is None else mask[:, None, None, :]
    return jax.nn.dot_product_attention(q, k, v, mask=keys, implementation=name)


def resolve(implementation: str, dtype: jnp.dtype) -> str:
    """The implementation that "auto" stands for on this backend. UserError for unknown names."""
    if implementation not in IMPLEMENTATIONS:
        raise UserError(f"unknown attention {implementation!r}: choose one of {IMPLEMENTATIONS}")
    if implementation != "auto":
        return implementation
    backend = jax.default_backend()
    if backend == "gpu":
        return "cudnn" if dtype == jnp.bfloat16 else "xla"
    return "dot" if backend == "cpu" else "xla"


def _dot(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    logits = jnp.einsum("bhsd,bhtd->bhst", q * q.shape[-1] ** -0.5, k).astype(jnp.float32)
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("bhst,bhtd->bhsd", weights, v).swapaxes(1, 2)
