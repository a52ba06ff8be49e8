"""A visit to every block of the matrix of anchors and photos, on one device or around a ring.

Letters: B tiles, n anchors or photos a tile, E embedding; m and k rows and columns of a block.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsvl_jax.losses.distributed import Plan

Tree = Any
# Stands for -inf where nothing is left to add up: differences of it stay finite.
LOWEST = -1e30


class Side(NamedTuple):
    """Anchors or photos.

    vectors [B, n, E], any float dtype, the one in which they travel; factor float32 [B, n], which
    multiplies their products: so vectors are neither copied nor rounded to be normalised; valid
    bool [B, n]: what stands elsewhere is never read; keys: tree of arrays [B, ...] for `Compare`.
    """

    vectors: jax.Array
    factor: jax.Array
    valid: jax.Array
    keys: Tree


class Found(NamedTuple):
    """bool [m, k]: which pairs are compared, and which match; None: all, and none."""

    compared: jax.Array | None
    matched: jax.Array | None


# (keys of the tiles of anchors, keys of those of photos) -> Found
Compare = Callable[[Tree, Tree], Found]


class Flat(NamedTuple):
    """Some tiles of a Side: vectors [m, E], factor [m], valid [m], keys, and more leaves [m]."""

    vectors: jax.Array
    factor: jax.Array
    valid: jax.Array
    keys: Tree
    extras: Tree


class Block(NamedTuple):
    """Rows and columns of a block, with products [m, k] and logits, which are products by both
    factors; compared and matched bool [m, k]."""

    row: Flat
    column: Flat
    products: jax.Array
    logits: jax.Array
    compared: jax.Array
    matched: jax.Array | None


class Running(NamedTuple):
    """A log-sum-exp that is still being added up: sum of exp(z - peak)."""

    peak: jax.Array
    total: jax.Array

    @classmethod
    def start(cls, shape: tuple[int, ...]) -> "Running":
        return cls(jnp.full(shape, LOWEST), jnp.zeros(shape))

    def add(self, z: jax.Array, axis: int) -> "Running":
        peak = jnp.maximum(self.peak, z.max(axis))
        total = jnp.exp(z - jnp.expand_dims(peak, axis)).sum(axis)
        return Running(peak, total + self.total * jnp.exp(self.peak - peak))

    def merge(self, other: "Running") -> "Running":
        peak = jnp.maximum(self.peak, other.peak)
        totals = (run.total * jnp.exp(run.peak - peak) for run in (self, other))
        return Running(peak, sum(totals, jnp.zeros(())))

    def value(self) -> jax.Array:
        return self.peak + jnp.log(self.total)


def flat(side: Side, extras: Tree = ()) -> Flat:
    """The anchors or photos of all tiles in one row, zeros where there is none."""
    vectors = jnp.where(side.valid[..., None], side.vectors, 0)
    vectors, factor, valid, extras = jax.tree.map(
        _flatten, (vectors, side.factor, side.valid, extras)
    )
    return Flat(vectors, factor, valid, side.keys, extras)


def block(row: Flat, column: Flat, compare: Compare) -> Block:
    """Products and logits of rows and columns, and what is compared."""
    found = compare(row.keys, column.keys)
    compared, matched = row.valid[:, None] & column.valid, found.matched
    if matched is not None:
        matched &= compared
    if found.compared is not None:
        compared &= found.compared
    products = product("me,ke->mk", row.vectors, column.vectors)
    logits = products * row.factor[:, None] * column.factor
    return Block(row, column, products, logits, compared, matched)


def product(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """einsum, float32. Accelerators would multiply float32 in bfloat16, which a scale of 100 makes
    visible; products of bfloat16 are exact in one pass."""
    if not a.dtype == b.dtype == jnp.bfloat16:
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    precision = None if a.dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST
    return jnp.einsum(equation, a, b, precision=precision, preferred_element_type=jnp.float32)


def sweep(
    step: Callable[[Block, Tree, Tree, Tree, Tree], tuple[Tree, Tree]],
    rows: tuple[Side, Tree],
    columns: tuple[Side, Tree],
    above: Tree,
    below: Tree,
    compare: Compare,
    plan: Plan,
) -> tuple[Tree, Tree]:
    """Visits every block of the matrix, the blocks of photos in the outer loop.

    step(block, extras of its rows, extras of its columns, above, below) -> (above, below), all
    [m, ...] or [k, ...]. rows, columns: of this device, each with its extras [B, n, ...]. `above`
    [B, A, ...] gathers along rows and stays, `below` [B, P, ...] gathers along columns and travels
    with them; arrays that are added up, or `Running`s. Returns both.
    """
    count = rows[0].factor.shape[0]
    rows, above = (jax.tree.map(lambda x: plan.cut(x, plan.rows), tree) for tree in (rows, above))
    columns, below = (
        jax.tree.map(lambda x: plan.cut(x, plan.columns), tree) for tree in (columns, below)
    )

    def visit(q: Any, carry: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
        def hop(_: Any, carry: tuple[Tree, Flat, Tree]) -> tuple[Tree, Flat, Tree]:
            above, column, found = carry

            def part(r: Any, carry: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
                above, found = carry
                row = flat(*_at(rows, r))
                mine = jax.tree.map(_flatten, _at(above, r))
                seen = block(row, column, compare)
                mine, found = step(seen, row.extras, column.extras, mine, found)
                return _put(above, r, mine), found

            above, found = _loop(_blocks(rows), part, (above, found))
            return above, *plan.pass_on((column, found))

        above, below = carry
        column = plan.gather(flat(*_at(columns, q)))
        start = jax.tree.map(_flatten, _at(below, q))
        above, _, found = _loop(plan.hops, hop, (above, column, _nothing(start, plan)))
        return above, _put(below, q, _add(start, _scatter(found, plan)))

    above, below = _loop(_blocks(columns), visit, (above, below))
    return jax.tree.map(lambda x: plan.join(x, count), (above, below))


def _loop(count: int, body: Callable[[Any, Tree], Tree], carry: Tree) -> Tree:
    return body(0, carry) if count == 1 else jax.lax.fori_loop(0, count, body, carry)


def _blocks(tree: Tree) -> int:
    return jax.tree.leaves(tree)[0].shape[0]


def _at(tree: Tree, index: Any) -> Tree:
    return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, index, keepdims=False), tree)


def _put(tree: Tree, index: Any, values: Tree) -> Tree:
    def put(x: jax.Array, value: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(x, value.reshape(x.shape[1:]), index, 0)

    return jax.tree.map(put, tree, values)


def _flatten(x: jax.Array) -> jax.Array:
    """[b, n, ...] -> [b * n, ...]."""
    return x.reshape(-1, *x.shape[2:])


def _running(tree: Tree) -> bool:
    return isinstance(tree, Running)


def _nothing(start: Tree, plan: Plan) -> Tree:
    """What `start` [k, ...] is before anything was added, for as many columns as are gathered."""

    def nothing(x: Tree) -> Tree:
        if isinstance(x, Running):
            return Running.start((plan.gathered * x.peak.shape[0],))
        return jnp.zeros((plan.gathered * x.shape[0], *x.shape[1:]), x.dtype)

    return jax.tree.map(nothing, start, is_leaf=_running)


def _scatter(found: Tree, plan: Plan) -> Tree:
    """What all inner devices found in the columns of each, brought home: its own columns."""

    def scatter(x: Tree) -> Tree:
        if isinstance(x, Running):
            peak = plan.maximum(x.peak)
            total = plan.scatter_sum(x.total * jnp.exp(x.peak - peak))
            return Running(plan.own(peak), total)
        return plan.scatter_sum(x)

    return jax.tree.map(scatter, found, is_leaf=_running)


def _add(a: Tree, b: Tree) -> Tree:
    return jax.tree.map(
        lambda x, y: x.merge(y) if isinstance(x, Running) else x + y, a, b, is_leaf=_running
    )
