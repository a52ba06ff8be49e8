"""Reductions over the matrix of all anchors and all photos: whole, in blocks, around a ring.

Letters: B tiles, A anchors a tile, P photos a tile, E embedding; a block has b tiles of anchors and
c of photos. The matrix is [B A, B P]: at 4,096 tiles of 8 photos half a gigabyte, or four with an
anchor for each photo. Block by block it never exists: both passes recompute a block where they need
it, as flash attention does (arXiv:2205.14135). Around a ring (see `distributed`) a device holds its
own rows and one block of columns; the log-sum-exps of these columns, and in the backward pass the
gradients of their photos, travel along with the block and come home complete.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rsvl_jax.losses.distributed import Plan
from rsvl_jax.losses.sweep import (
    LOWEST,
    Block,
    Compare,
    Running,
    Side,
    block,
    flat,
    product,
    sweep,
)

Tree = Any


class Matched(NamedTuple):
    """Sum of the logits of matching pairs, and their number, float32."""

    total: jax.Array
    pairs: jax.Array


class Softmax(NamedTuple):
    """own [B, A, P]: logits within a tile; above [B, A] and below [B, P]: log-sum-exps along rows
    and columns, LOWEST where nothing is compared. None: not asked for.
    """

    own: jax.Array
    above: jax.Array
    below: jax.Array | None = None
    matched_above: Matched | None = None
    matched_below: Matched | None = None


def logsumexp(
    x: Side, y: Side, compare: Compare, *, both: bool, matched: bool = False, plan: Plan | None
) -> Softmax:
    """Log-sum-exp of the logits over the photos compared, and, with `both`, over their anchors.

    matched (with a plan): the sums over matching pairs, too. plan None: the whole matrix at once.
    """
    if plan is not None:
        return _logsumexp(x, y, compare, both, matched, plan)
    found = block(flat(x), flat(y), compare)
    z = jnp.where(found.compared, found.logits, LOWEST)
    above = jax.nn.logsumexp(z, axis=1).reshape(x.factor.shape)
    below = jax.nn.logsumexp(z, axis=0).reshape(y.factor.shape) if both else None
    return Softmax(_own_logits(x, y), above, below)


def softplus_sum(
    x: Side,
    y: Side,
    bias: jax.Array,
    weights: tuple[jax.Array, jax.Array],
    compare: Compare,
    *,
    plan: Plan | None,
) -> tuple[jax.Array, jax.Array]:
    """Logits within a tile [B, A, P], without bias; and the sum [B, A] over the photos compared of
    weight * log(1 + exp(logit + bias)), where they match of weight * log(1 + exp(-logit - bias)).

    bias [] float32; weights float32 [B, A], [B, P], held constant: those of a pair are added up.
    """
    shift = jnp.broadcast_to(bias, x.factor.shape)
    if plan is not None:
        return _softplus(x, y, shift, weights, compare, plan)
    found = block(flat(x), flat(y), compare)
    costs = _softplus_costs(found, shift.reshape(-1), *(weight.reshape(-1) for weight in weights))
    return _own_logits(x, y), costs.sum(1).reshape(x.factor.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _logsumexp(
    x: Side, y: Side, compare: Compare, both: bool, matched: bool, plan: Plan
) -> Softmax:
    return _logsumexp_forward(x, y, compare, both, matched, plan)[0]


def _logsumexp_forward(
    x: Side, y: Side, compare: Compare, both: bool, matched: bool, plan: Plan
) -> tuple[Softmax, Tree]:
    def step(found: Block, row: Tree, column: Tree, above: Tree, below: Tree) -> Tree:
        z = jnp.where(found.compared, found.logits, LOWEST)
        (run_above, sum_above), (run_below, sum_below) = above, below
        above = run_above.add(z, 1), _add_matched(sum_above, found, 1)
        return above, (run_below.add(z, 0) if both else None, _add_matched(sum_below, found, 0))

    def local(x: Side, y: Side) -> Softmax:
        above, below = (
            (
                Running.start(side.factor.shape) if wanted else None,
                Matched(*jnp.zeros((2, *side.factor.shape))) if matched else None,
            )
            for side, wanted in ((x, True), (y, both))
        )
        above, below = sweep(step, (x, ()), (y, ()), above, below, compare, plan)
        lse = below[0].value() if both else None
        return Softmax(_own_logits(x, y), above[0].value(), lse, above[1], below[1])

    found = plan.run(local, x, y)
    return found, (x, y, found.above, found.below)


def _logsumexp_backward(
    compare: Compare, both: bool, matched: bool, plan: Plan, residuals: Tree, cotangents: Softmax
) -> Tree:
    def step(found: Block, row: Tree, column: Tree, above: Tree, dy: Tree) -> Tree:
        dx, _ = above
        (lse_above, dabove, dsum_above), (lse_below, dbelow, dsum_below) = row, column
        dz = dabove[:, None] * jnp.exp(found.logits - lse_above[:, None])
        if both:
            dz += dbelow * jnp.exp(found.logits - lse_below)
        dz = jnp.where(found.compared, dz, 0)
        if found.matched is not None:
            dz += jnp.where(found.matched, dsum_above[:, None] + dsum_below, 0)
        dx, dy = _add_gradients(found, dz, dx, dy)
        return (dx, ()), dy

    def local(x: Side, y: Side, above: Tree, below: Tree, cotangents: Softmax) -> Tree:
        sums = cotangents.matched_above, cotangents.matched_below
        dsums = [None if found is None else found.total for found in sums]
        rows = above, cotangents.above, dsums[0]
        columns = below, cotangents.below, dsums[1]
        (dx, _), dy = _gradients(step, (x, rows), (y, columns), cotangents.own, compare, plan)
        return dx, dy

    return plan.run(local, *residuals, cotangents)


_logsumexp.defvjp(_logsumexp_forward, _logsumexp_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _softplus(
    x: Side, y: Side, shift: jax.Array, weights: Tree, compare: Compare, plan: Plan
) -> tuple[jax.Array, jax.Array]:
    return _softplus_forward(x, y, shift, weights, compare, plan)[0]


def _softplus_forward(
    x: Side, y: Side, shift: jax.Array, weights: Tree, compare: Compare, plan: Plan
) -> tuple[tuple[jax.Array, jax.Array], Tree]:
    def step(found: Block, row: Tree, column: Tree, above: Tree, below: Tree) -> Tree:
        return above + _softplus_costs(found, *row, *column).sum(1), below

    def local(x: Side, y: Side, shift: jax.Array, weights: Tree) -> tuple[jax.Array, jax.Array]:
        rows, columns = (x, (shift, weights[0])), (y, (weights[1],))
        above, _ = sweep(step, rows, columns, jnp.zeros(x.factor.shape), (), compare, plan)
        return _own_logits(x, y), above

    return plan.run(local, x, y, shift, weights), (x, y, shift, weights)


def _softplus_backward(compare: Compare, plan: Plan, residuals: Tree, cotangents: Tree) -> Tree:
    def step(found: Block, row: Tree, column: Tree, above: Tree, dy: Tree) -> Tree:
        (shift, weight, dabove), (column_weight,), (dx, dshift) = row, column, above
        z = found.logits + shift[:, None]
        slope = jax.nn.sigmoid(z)
        if found.matched is not None:
            slope = jnp.where(found.matched, slope - 1, slope)
        dz = dabove[:, None] * slope * (weight[:, None] + column_weight)
        dz = jnp.where(found.compared, dz, 0)
        dx, dy = _add_gradients(found, dz, dx, dy)
        return (dx, dshift + dz.sum(1)), dy

    def local(x: Side, y: Side, shift: jax.Array, weights: Tree, cotangents: Tree) -> Tree:
        down, dabove = cotangents
        rows, columns = (x, (shift, weights[0], dabove)), (y, (weights[1],))
        return _gradients(step, rows, columns, down, compare, plan, jnp.zeros(x.factor.shape))

    (dx, dshift), dy = plan.run(local, *residuals, cotangents)
    return dx, dy, dshift, None


_softplus.defvjp(_softplus_forward, _softplus_backward)


class _Gradient(NamedTuple):
    """Of vectors [B, n, E] and factor [B, n] of a side, float32."""

    vectors: jax.Array
    factor: jax.Array


def _gradients(
    step: Callable[..., Tree],
    rows: tuple[Side, Tree],
    columns: tuple[Side, Tree],
    own: jax.Array,
    compare: Compare,
    plan: Plan,
    more: Tree = (),
) -> tuple[tuple[Side, Tree], Side]:
    """Cotangents of both sides; own [B, A, P]: of the logits within a tile; more: what `step` also
    adds up along rows, from here."""
    (x, _), (y, _) = rows, columns
    dx, dy = _own_gradients(x, y, own)
    (dx, more), dy = sweep(step, rows, columns, (dx, more), dy, compare, plan)
    return (_cotangent(dx, x), more), _cotangent(dy, y)


def _add_gradients(
    found: Block, dz: jax.Array, dx: _Gradient, dy: _Gradient
) -> tuple[_Gradient, _Gradient]:
    """Adds what dz [m, k], the cotangent of the logits of a block, gives its rows and columns."""
    row, column = found.row, found.column
    by_row, by_column = dz * column.factor, dz * row.factor[:, None]
    both = by_row * row.factor[:, None]
    dx = _Gradient(
        dx.vectors + product("mk,ke->me", both, column.vectors),
        dx.factor + (by_row * found.products).sum(1),
    )
    dy = _Gradient(
        dy.vectors + product("mk,me->ke", both, row.vectors),
        dy.factor + (by_column * found.products).sum(0),
    )
    return dx, dy


def _given(side: Side) -> jax.Array:
    return jnp.where(side.valid[..., None], side.vectors, 0)


def _own_logits(x: Side, y: Side) -> jax.Array:
    products = product("bae,bpe->bap", _given(x), _given(y))
    return products * x.factor[:, :, None] * y.factor[:, None]


def _own_gradients(x: Side, y: Side, dz: jax.Array) -> tuple[_Gradient, _Gradient]:
    """Of the logits within a tile; dz [B, A, P]."""
    u, v, a, b = x.factor[:, :, None], y.factor[:, None], _given(x), _given(y)
    slopes, both = dz * product("bae,bpe->bap", a, b), dz * u * v
    return (
        _Gradient(product("bap,bpe->bae", both, b), (slopes * v).sum(2)),
        _Gradient(product("bap,bae->bpe", both, a), (slopes * u).sum(1)),
    )


def _cotangent(gradient: _Gradient, side: Side) -> Side:
    """None: neither what is valid nor keys have a gradient."""
    none: Any = None
    return Side(gradient.vectors.astype(side.vectors.dtype), gradient.factor, none, none)


def _add_matched(sums: Matched | None, found: Block, axis: int) -> Matched | None:
    if sums is None or found.matched is None:
        return sums
    total = jnp.sum(found.logits, axis, where=found.matched)
    return Matched(sums.total + total, sums.pairs + jnp.sum(found.matched, axis, jnp.float32))


def _softplus_costs(
    found: Block, shift: jax.Array, row_weight: jax.Array, column_weight: jax.Array
) -> jax.Array:
    """[m, k], 0 where nothing is compared; shift [m] is added to the logits."""
    z = found.logits + shift[:, None]
    if found.matched is not None:
        z = jnp.where(found.matched, -z, z)
    costs = jax.nn.softplus(z) * (row_weight[:, None] + column_weight)
    return jnp.where(found.compared, costs, 0)
