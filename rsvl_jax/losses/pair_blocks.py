"""Reductions over the matrix of all anchors and all photos: at once, or block by block.

Letters: B tiles, A anchors a tile, P photos a tile, E embedding. The matrix is [B, A, B, P]: at
4,096 tiles of 8 photos half a gigabyte, or four with an anchor for each photo. Block by block it
never exists: both passes recompute a block where they need it, as flash attention does
(arXiv:2205.14135), so temporary memory beside the inputs and their gradients is that of one block.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Tree = Any
# Stands for -inf where nothing is left to add up: differences of it stay finite.
LOWEST = -1e30


class Rows(NamedTuple):
    """Anchors: valid bool [B, A]; tile int [B]; names int [B, A, K], named bool [B, A, K]: the ids
    of the photos that an anchor stands for, None without ids."""

    valid: jax.Array
    tile: jax.Array
    names: jax.Array | None
    named: jax.Array | None


class Columns(NamedTuple):
    """Photos: valid bool [B, P]; tile int [B]; ids int [B, P] or None."""

    valid: jax.Array
    tile: jax.Array
    ids: jax.Array | None


class Pairs(NamedTuple):
    """Which anchors and photos of different tiles are compared; ignore bool [B, B] or None."""

    rows: Rows
    columns: Columns
    ignore: jax.Array | None


def logsumexp(
    x: jax.Array, y: jax.Array, pairs: Pairs, *, both: bool, size: int | None
) -> tuple[jax.Array, jax.Array | None]:
    """Log-sum-exp of the products x y^T over the photos of other tiles, and over their anchors.

    x float32 [B, A, E], y float32 [B, P, E]; both: also over the anchors, else None; size: tiles
    in a block, of anchors as of photos, None for the whole matrix at once. Returns float32 [B, A]
    and [B, P], LOWEST where there is nothing to compare with.
    """
    if size is not None:
        return _blockwise_logsumexp(x, y, pairs, both, min(size, x.shape[0]))
    z = jnp.where(_compared(*pairs), _products(x, y), LOWEST)
    below = jax.nn.logsumexp(z, axis=(0, 1)) if both else None
    return jax.nn.logsumexp(z, axis=(2, 3)), below


def softplus_sum(
    x: jax.Array,
    y: jax.Array,
    bias: jax.Array,
    pairs: Pairs,
    weights: jax.Array,
    *,
    size: int | None,
) -> jax.Array:
    """Sum over the photos of other tiles of weight * log(1 + exp(x y^T + bias)), float32 [B, A].

    bias []; weights float32 [B, P] of the photos, held constant; the others as in `logsumexp`.
    """
    if size is not None:
        return _blockwise_softplus(x, y, bias, pairs, weights, min(size, x.shape[0]))
    costs = jax.nn.softplus(_products(x, y) + bias) * weights
    return jnp.where(_compared(*pairs), costs, 0).sum((2, 3))


def _products(x: jax.Array, y: jax.Array) -> jax.Array:
    """[b, A, E], [c, P, E] -> [b, A, c, P]."""
    return _einsum("bae,cpe->bacp", x, y)


def _einsum(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators would multiply float32 in bfloat16; a scale of 100 makes that visible.
    return jnp.einsum(equation, a, b, precision=jax.lax.Precision.HIGHEST)


def _compared(rows: Rows, columns: Columns, ignore: jax.Array | None) -> jax.Array:
    """bool [b, A, c, P]: of different tiles, not ignored, and no copy of what the anchor means."""
    apart = rows.tile[:, None] != columns.tile[None, :]
    if ignore is not None:
        apart &= ~ignore
    found = apart[:, None, :, None] & rows.valid[:, :, None, None] & columns.valid
    if rows.names is None or rows.named is None:
        return found
    for index in range(rows.names.shape[-1]):
        copies = rows.names[..., index, None, None] == columns.ids
        found &= ~(copies & rows.named[..., index, None, None])
    return found


class _Softmax(NamedTuple):
    """A log-sum-exp that is still being added up: sum of exp(z - peak)."""

    peak: jax.Array
    total: jax.Array

    @classmethod
    def start(cls, shape: tuple[int, ...]) -> "_Softmax":
        return cls(jnp.full(shape, LOWEST), jnp.zeros(shape))

    def add(self, z: jax.Array, axes: tuple[int, int]) -> "_Softmax":
        peak = jnp.maximum(self.peak, z.max(axes))
        total = jnp.exp(z - jnp.expand_dims(peak, axes)).sum(axes)
        return _Softmax(peak, total + self.total * jnp.exp(self.peak - peak))

    def value(self) -> jax.Array:
        return self.peak + jnp.log(self.total)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _blockwise_logsumexp(
    x: jax.Array, y: jax.Array, pairs: Pairs, both: bool, size: int
) -> tuple[jax.Array, jax.Array | None]:
    return _logsumexp_forward(x, y, pairs, both, size)[0]


def _logsumexp_forward(
    x: jax.Array, y: jax.Array, pairs: Pairs, both: bool, size: int
) -> tuple[tuple[jax.Array, jax.Array | None], Tree]:
    def step(row: Tree, column: Tree, compared: jax.Array, above: Tree, below: Tree) -> Tree:
        z = jnp.where(compared, _products(row, column), LOWEST)
        return above.add(z, (2, 3)), below.add(z, (0, 1)) if both else None

    above = _Softmax.start(x.shape[:2])
    below = _Softmax.start((size, y.shape[1])) if both else None
    above, below = _sweep(step, x, y, pairs, above, below, size)
    found = above.value(), below.value() if below else None
    return found, (x, y, pairs, found)


def _logsumexp_backward(both: bool, size: int, residuals: Tree, cotangents: Tree) -> Tree:
    x, y, pairs, (above, below) = residuals

    def step(row: Tree, column: Tree, compared: jax.Array, dx: Tree, dy: Tree) -> Tree:
        (x, above, dabove), (y, below, dbelow) = row, column
        z = jnp.where(compared, _products(x, y), LOWEST)
        dz = _across(dabove) * jnp.exp(z - _across(above))
        if both:
            dz += dbelow * jnp.exp(z - below)
        dz = jnp.where(compared, dz, 0)
        return dx + _einsum("bacp,cpe->bae", dz, y), dy + _einsum("bacp,bae->cpe", dz, x)

    rows, columns = (x, above, cotangents[0]), (y, below, cotangents[1])
    dy = jnp.zeros((size, *y.shape[1:]))
    dx, dy = _sweep(step, rows, columns, pairs, jnp.zeros_like(x), dy, size)
    return dx, dy, None


_blockwise_logsumexp.defvjp(_logsumexp_forward, _logsumexp_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _blockwise_softplus(
    x: jax.Array, y: jax.Array, bias: jax.Array, pairs: Pairs, weights: jax.Array, size: int
) -> jax.Array:
    return _softplus_forward(x, y, bias, pairs, weights, size)[0]


def _softplus_forward(
    x: jax.Array, y: jax.Array, bias: jax.Array, pairs: Pairs, weights: jax.Array, size: int
) -> tuple[jax.Array, Tree]:
    def step(row: Tree, column: Tree, compared: jax.Array, above: Tree, below: Tree) -> Tree:
        y, weights = column
        costs = jax.nn.softplus(_products(row, y) + bias) * weights
        return above + jnp.where(compared, costs, 0).sum((2, 3)), below

    above, _ = _sweep(step, x, (y, weights), pairs, jnp.zeros(x.shape[:2]), None, size)
    return above, (x, y, bias, pairs, weights)


def _softplus_backward(size: int, residuals: Tree, cotangent: jax.Array) -> Tree:
    x, y, bias, pairs, weights = residuals

    def step(row: Tree, column: Tree, compared: jax.Array, above: Tree, dy: Tree) -> Tree:
        (x, dabove), (y, weights), (dx, dbias) = row, column, above
        dz = _across(dabove) * jax.nn.sigmoid(_products(x, y) + bias) * weights
        dz = jnp.where(compared, dz, 0)
        above = dx + _einsum("bacp,cpe->bae", dz, y), dbias + dz.sum((2, 3))
        return above, dy + _einsum("bacp,bae->cpe", dz, x)

    start = jnp.zeros_like(x), jnp.zeros(x.shape[:2])
    dy = jnp.zeros((size, *y.shape[1:]))
    (dx, dbias), dy = _sweep(step, (x, cotangent), (y, weights), pairs, start, dy, size)
    return dx, dy, dbias.sum(), None, None


_blockwise_softplus.defvjp(_softplus_forward, _softplus_backward)


def _across(x: jax.Array) -> jax.Array:
    """[b, A] -> [b, A, 1, 1]."""
    return x[:, :, None, None]


def _sweep(
    step: Callable[..., Tree],
    rows: Tree,
    columns: Tree,
    pairs: Pairs,
    above: Tree,
    below: Tree,
    size: int,
) -> tuple[Tree, Tree]:
    """Visits every block of the matrix, the blocks of photos in the outer loop.

    step(rows, columns, compared, above, below) -> (above, below) of one block. `above` [B, ...] is
    what gathers along rows; `below` [size, ...] is where every block of photos starts, and what
    gathers along its columns. Returns both, [B, ...]. A mesh divides the work of each block, and
    gathers one of its sides from all devices: larger blocks mean less traffic.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    cut = functools.partial(_cut, size=size)
    start, ignore = below, pairs.ignore
    if ignore is not None:
        ignore = cut(cut(ignore).transpose(2, 0, 1)).transpose(0, 2, 3, 1)

    def outer(above: Tree, block: Tree) -> tuple[Tree, Tree]:
        (column, photos), ignored = block

        def inner(below: Tree, block: Tree) -> tuple[Tree, Tree]:
            (row, anchors), above, ignored = block
            compared = _compared(anchors, photos, ignored)
            above, below = step(row, column, compared, above, below)
            return below, above

        below, above = jax.lax.scan(inner, start, (row_blocks, above, ignored))
        return above, below

    row_blocks = jax.tree.map(cut, (rows, pairs.rows))
    column_blocks = jax.tree.map(cut, (columns, pairs.columns))
    above, below = jax.lax.scan(outer, jax.tree.map(cut, above), (column_blocks, ignore))
    return jax.tree.map(functools.partial(_join, count=count), (above, below))


def _cut(x: jax.Array, size: int) -> jax.Array:
    """[B, ...] -> [blocks, size, ...], padded with zeros; block i holds rows i, i + blocks, ...

    Every device of a mesh that splits B so has its share in each block.
    """
    blocks = -(-x.shape[0] // size)
    padding = [(0, blocks * size - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, padding).reshape(size, blocks, *x.shape[1:]).swapaxes(0, 1)


def _join(x: jax.Array, count: int) -> jax.Array:
    """Inverse of `_cut`: [blocks, size, ...] -> [B, ...]."""
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])[:count]
