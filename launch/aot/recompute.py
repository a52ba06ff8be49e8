"""What the backward pass of a remat policy computes again, and what it keeps: from the trace alone.

Counted are matrix products, as they stand in the traced step, so the numbers do not depend on a
compiler: what a policy recomputes is what its step has more than that of "none".
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters.partial_eval import dce_jaxpr

from launch.aot.program import Program, traced_for
from rsvl_jax.models.transformer import KEPT
from rsvl_jax.parallel.mesh import batch_shards
from rsvl_jax.parallel.sharding import bytes_per_device
from rsvl_jax.training.objective import total
from rsvl_jax.training.state import shardings_of

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
    """The cost of a program's step under its own remat policy."""
    with traced_for(program.mesh):
        step = jax.make_jaxpr(program.step)(program.state, program.batch).jaxpr
        held = sum(map(_bytes, _activations(program)))
    used, _ = dce_jaxpr(step, [True] * len(step.outvars))
    return Cost(_flops(used) / program.mesh.size, held // batch_shards(program.mesh))


def beside(program: Program, costs: Mapping[str, Cost]) -> int:
    """A guess at the bytes that the step needs on one chip beside what a policy keeps: its state,
    its gradients, and one layer of its deepest tower at work."""
    state, params = program.state, program.state.params
    gradients = bytes_per_device(params, shardings_of(params))
    layer = (costs["none"].kept - costs["full"].kept) // program.config.model.image.depth
    return bytes_per_device(state, shardings_of(state)) + gradients + layer


def _activations(program: Program) -> Iterator[Any]:
    """What lives from the forward to the backward pass of a micro-batch, and grows with it: views
    of a sample may stand below each other as rows."""
    objective, state = program.objective, program.state
    rows = program.config.data.batch_size // program.micro_batches
    part = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (x.shape[0] // program.micro_batches, *x.shape[1:]), x.dtype, sharding=x.sharding
        ),
        program.batch,
    )

    def residuals(params: Tree, frozen: Tree, batch: Tree) -> Tree:
        def loss(params: Tree) -> jax.Array:
            terms = objective.terms(params, frozen, batch, jax.random.key(0))
            return total(terms, objective.weights, jnp.zeros((), jnp.int32))[0]

        return jax.vjp(loss, params)[1]

    weights = {leaf.shape for leaf in jax.tree.leaves(state)}
    for leaf in jax.tree.leaves(jax.eval_shape(residuals, state.params, state.frozen, part)):
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
