"""Which samples of a batch belong together: a bool [B, B] that need never exist as a whole."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any
Test = Callable[[Tree, Tree], jax.Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Relation:
    """bool [B, B] by rule: entry [i, j] is test(a, b)[i, j], and depends on a[i] and b[j] alone.

    a, b: trees of arrays [B, ...], what is known of row i and of column j. test must work on any
    rows and columns of them, [b, ...] and [c, ...] -> bool [b, c]; a function of a module, so that
    programs that differ in arrays alone are compiled once.
    """

    a: Tree
    b: Tree
    test: Test = field(metadata={"static": True})

    @property
    def T(self) -> "Relation":
        """Rows and columns exchanged, as of a matrix."""
        return Relation(self.b, self.a, _Transposed(self.test))

    def matrix(self) -> jax.Array:
        """The bool [B, B]."""
        return self.test(self.a, self.b)


def same_id(ids: jax.Array, *, a: jax.Array | None = None, b: jax.Array | None = None) -> Relation:
    """True where two samples carry the same id, ids int [B].

    a, b bool [B]: rows and columns that take part at all; None: all of them.
    """
    every = jnp.ones(ids.shape, bool)
    rows, columns = (every if x is None else jnp.asarray(x) != 0 for x in (a, b))
    return Relation((ids, rows), (ids, columns), _same_id)


def of_matrix(matrix: jax.Array, *, whole: bool) -> Relation:
    """A bool [B, B] that exists. whole: it is always asked for all of its entries.

    Split over devices, each of them holds its rows whole.
    """
    columns = None if whole else jnp.arange(matrix.shape[1])
    return Relation(jnp.asarray(matrix), columns, _columns)


@dataclass(frozen=True)
class _Transposed:
    test: Test

    def __call__(self, a: Tree, b: Tree) -> jax.Array:
        return self.test(b, a).T


def _same_id(a: Tree, b: Tree) -> jax.Array:
    (id_a, takes_a), (id_b, takes_b) = a, b
    return (id_a[:, None] == id_b[None, :]) & takes_a[:, None] & takes_b[None, :]


def _columns(a: Tree, b: Tree) -> jax.Array:
    return a if b is None else jnp.take(a, b, axis=1)
