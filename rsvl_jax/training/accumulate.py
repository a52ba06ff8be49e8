"""Large batches on few devices: the gradient of a batch, taken in micro-batches.

Terms that are sums over rows (masked modelling, matching) add up. A contrast compares every row
with every other, so a mean over micro-batches would be another loss, with fewer negatives; but it
sees of a row nothing except its embedding. Hence two passes (GradCache, arXiv:2101.06983):

    1. each micro-batch is encoded, and its embeddings are all that is kept
       - the embeddings of the whole batch are related: the contrasts, and their gradients with
         respect to the embeddings and to what relates them (logit scale, bias)
    2. each micro-batch is encoded again, and pulls back its embeddings' gradients, together with
       those of its own sums

The gradient is that of the whole batch but for the order of additions. Both passes of a micro-batch
draw from one key; as dropout draws by shape, its draws are not those of the whole batch.
"""

import functools
import operator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsvl_jax.errors import UserError
from rsvl_jax.parallel.mesh import BATCH_AXES, batch_shards
from rsvl_jax.training.objective import Objective, Split, Term, total
from rsvl_jax.training.state import TrainState

Tree = Any
KEY = "training.micro_batches"


def check(objective: Objective, count: int) -> None:
    """Raises UserError where an objective's batch cannot be taken in `count` micro-batches."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UserError(f"{KEY}={count!r} must be a whole number above zero; 1 takes all at once")
    if count == 1:
        return
    if not isinstance(objective, Split):
        raise UserError(
            f"{KEY}={count}: {type(objective).__name__} has terms over the whole batch and no "
            "embeddings to compute them from; use 1"
        )
    for name, reason in objective.whole_batch.items():
        raise UserError(f"{KEY}={count}: {name} needs the whole batch at once: {reason}; use 1")


def check_rows(rows: int, count: int, mesh: Mesh | None, what: str = "batch") -> None:
    """Raises UserError where rows cannot be cut evenly into micro-batches, each over the mesh."""
    devices = 1 if mesh is None else batch_shards(mesh)
    if rows % (count * devices):
        raise UserError(
            f"{what} of {rows} rows does not divide into {KEY}={count} over {devices} devices; "
            f"choose a multiple of {count * devices}"
        )


def value_and_grad(
    objective: Any,
    count: int,
    state: TrainState,
    batch: Tree,
    rng: jax.Array,
    mesh: Mesh | None = None,
) -> tuple[tuple[jax.Array, dict[str, jax.Array]], Tree]:
    """((loss, name -> mean of each term), gradient of the parameters) of a whole batch.

    batch: tree of arrays [B, ...], B divisible by `count`, on each device of the mesh. Gradients
    add up in the type of their parameters. objective: one that `check` lets pass. Raises UserError,
    see `check_rows`.
    """
    passes = _Passes(objective, state)
    batch = objective.prepare(batch)
    parts = cut(batch, count, mesh), jax.random.split(rng, count)
    embeddings, counts = jax.lax.map(passes.first, parts)
    embeddings, counts = join(embeddings, mesh), jax.tree.map(lambda n: n.sum(0), counts)
    between = jax.value_and_grad(passes.between, argnums=(0, 1), has_aux=True)
    (_, terms), (grads, pulled) = between(state.params, embeddings, batch)
    start = grads, dict.fromkeys(counts, jnp.zeros((), jnp.float32))
    second = functools.partial(passes.second, counts)
    (grads, sums), _ = jax.lax.scan(second, start, (*parts, cut(pulled, count, mesh)))
    terms |= {name: (value, counts[name]) for name, value in sums.items()}
    return total(terms, objective.weights, state.step), grads


@dataclass(frozen=True)
class _Passes:
    """What is done with a micro-batch and its key, and with the whole batch between the passes."""

    objective: Any
    state: TrainState

    def first(self, part: tuple[Tree, jax.Array]) -> tuple[Tree, Tree]:
        """The embeddings of a micro-batch, and the counts of its own terms."""
        # Of `encode` only counts are asked for: the compiler leaves the networks out.
        _, found = self.objective.encode(self.state.params, self.state.frozen, *part)
        embeddings = self.objective.embed(self.state.params, self.state.frozen, *part)
        _check_embeddings(embeddings, part[0])
        return embeddings, {name: jnp.asarray(n) for name, (_, n) in found.items()}

    def between(
        self, params: Tree, embeddings: Tree, batch: Tree
    ) -> tuple[jax.Array, dict[str, Term]]:
        """What the terms that compare rows add to the loss, and these terms."""
        terms = self.objective.relate(params, self.state.frozen, embeddings, batch)
        return self._loss(terms), terms

    def second(
        self, counts: dict[str, jax.Array], carry: tuple[Tree, Tree], part: Tree
    ) -> tuple[tuple[Tree, Tree], None]:
        """Adds a micro-batch's gradients and sums to those in `carry`."""
        batch, key, pulled = part

        def encode(params: Tree) -> tuple[tuple[Tree, jax.Array], Tree]:
            embeddings, found = self.objective.encode(params, self.state.frozen, batch, key)
            sums = {name: jnp.asarray(value, jnp.float32) for name, (value, _) in found.items()}
            own = self._loss({name: (value, counts[name]) for name, value in sums.items()})
            return (embeddings, own), sums

        _, pull, sums = jax.vjp(encode, self.state.params, has_aux=True)
        (grads,) = pull((pulled, jnp.ones((), jnp.float32)))
        return jax.tree.map(operator.add, carry, (grads, sums)), None

    def _loss(self, terms: dict[str, Term]) -> jax.Array:
        """What these terms alone add to the loss, other weights being of terms that are 0."""
        weights, nothing = self.objective.weights, (jnp.zeros(()), jnp.ones(()))
        others = dict.fromkeys(weights.keys() - terms.keys(), nothing)
        return total(others | terms, weights, self.state.step)[0]


def cut(tree: Tree, count: int, mesh: Mesh | None = None) -> Tree:
    """Arrays [B, ...] -> [count, B / count, ...]; micro-batch i holds rows i, i + count, ...

    So each device has an equal share of every micro-batch among its own rows, and nothing moves.
    Raises UserError where B does not divide.
    """

    def part(path: Any, x: jax.Array) -> jax.Array:
        check_rows(x.shape[0], count, mesh, jax.tree_util.keystr(path, simple=True, separator="/"))
        x = x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)
        return _place(x, mesh, PartitionSpec(None, BATCH_AXES))

    return jax.tree_util.tree_map_with_path(part, tree)


def join(tree: Tree, mesh: Mesh | None = None) -> Tree:
    """Inverse of `cut`: arrays [count, b, ...] -> [count * b, ...]."""
    return jax.tree.map(
        lambda x: _place(
            x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), mesh, PartitionSpec(BATCH_AXES)
        ),
        tree,
    )


def _place(x: jax.Array, mesh: Mesh | None, spec: PartitionSpec) -> jax.Array:
    if mesh is None:
        return x
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def _check_embeddings(embeddings: Tree, batch: Tree) -> None:
    """Raises ValueError for what is no tree of rows: it could not be put together again."""
    rows = {x.shape[0] for x in jax.tree.leaves(batch)}
    for x in jax.tree.leaves(embeddings):
        if not x.ndim or x.shape[0] not in rows:
            raise ValueError(f"embeddings of shape {x.shape} do not begin with {sorted(rows)} rows")
