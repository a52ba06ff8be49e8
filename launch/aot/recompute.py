"""What the backward pass of a remat policy computes again, and what it keeps: from the trace alone.

Counted are matrix products, as they stand in the traced gradient, so the numbers do not depend on a
compiler: what a policy recomputes is what its gradient has more than that of "none".
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from launch.aot.program import Program, traced_for
from rsvl_jax.models.transformer import KEPT
from rsvl_jax.parallel.mesh import batch_shards
from rsvl_jax.training.objective import total

Tree = Any


@dataclass(frozen=True)
class Cost:
    """Of a step on one chip. flops: of its matrix products; kept: bytes that live from the forward
    to the backward pass, parameters left out."""

    flops: float
    kept: int


def policies() -> list[str]:
    """Every choice of what a layer keeps: all ("none"), nothing ("full"), and each part of KEPT."""
    parts = [c for n in range(1, len(KEPT) + 1) for c in itertools.combinations(KEPT, n)]
    return ["none", "full", *("+".join(part) for part in parts)]


def cost(program: Program) -> Cost:
    """The cost of a program's gradient under its own remat policy."""
    state, objective = program.state, program.objective

    def loss(params: Tree, frozen: Tree, batch: Tree) -> jax.Array:
        terms = objective.terms(params, frozen, batch, jax.random.key(0))
        return total(terms, objective.weights, jnp.zeros((), jnp.int32))[0]

    def residuals(params: Tree, frozen: Tree, batch: Tree) -> Tree:
        return jax.vjp(lambda p: loss(p, frozen, batch), params)[1]

    arguments = state.params, state.frozen, program.batch
    with traced_for(program.mesh):
        gradient = jax.make_jaxpr(jax.grad(loss))(*arguments)
        kept = jax.tree.leaves(jax.eval_shape(residuals, *arguments))
    held = sum(_bytes(leaf) for leaf in _activations(kept, program))
    return Cost(_flops(gradient.jaxpr) / program.mesh.size, held // batch_shards(program.mesh))


def _activations(leaves: list[Any], program: Program) -> Iterator[Any]:
    """Those that grow with the batch: views of a sample may stand below each other as rows."""
    rows = program.config.data.batch_size
    weights = {leaf.shape for leaf in jax.tree.leaves(program.state)}
    for leaf in leaves:
        if leaf.shape not in weights and any(size and size % rows == 0 for size in leaf.shape):
            yield leaf


def _bytes(leaf: Any) -> int:
    return math.prod(leaf.shape) * leaf.dtype.itemsize


def _flops(jaxpr: Jaxpr) -> float:
    """FLOPs of all matrix products, on all devices together."""
    return sum(_of(eqn) for eqn in jaxpr.eqns)


def _of(eqn: JaxprEqn) -> float:
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        sizes = [_shape(eqn.invars[0])[axis] for axis in contracted]
        return 2.0 * math.prod(_shape(eqn.outvars[0])) * math.prod(sizes)
    times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
    if eqn.primitive.name == "shard_map":
        times = eqn.params["mesh"].size
    inner = [_flops(each) for each in _inside(eqn)]
    if eqn.primitive.name == "cond":
        return max(inner)
    return times * sum(inner)


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inside(eqn: JaxprEqn) -> Iterator[Jaxpr]:
    for value in eqn.params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, Jaxpr):
                yield each
