"""The boundary between modules and everything else: modules in, nested plain dicts out.

    variables = functional.init(make, rng)          # {"params": tree, "frozen": tree}
    graph = functional.structure(make)              # static and hashable
    module = functional.bind(graph, variables["params"], variables["frozen"])
    axes = functional.logical_axes(make)            # same trees, a tuple of names for each array

`make` maps an `nnx.Rngs` to a module. "params" holds what the optimiser may change, "frozen" what
is used and never optimised (a tokenizer's codebook, random Fourier frequencies); either may be {}.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from rsvl_jax.models.layers import Frozen

Tree = dict[str, Any]
Make = Callable[[nnx.Rngs], nnx.Module]


def init(make: Make, rng: jax.Array) -> dict[str, Tree]:
    """Fresh arrays as {"params": tree, "frozen": tree}. Works under `jax.jit` and `eval_shape`."""
    params, frozen = _states(make(nnx.Rngs(rng)))
    return {"params": nnx.to_pure_dict(params), "frozen": nnx.to_pure_dict(frozen)}


def structure(make: Make) -> nnx.GraphDef:
    """What remains of the module without its arrays. Allocates nothing."""
    return nnx.graphdef(_abstract(make))


def bind(graph: nnx.GraphDef, params: Tree, frozen: Tree | None = None) -> Any:
    """The module with these arrays. `frozen` may be left out where the module has none."""
    return nnx.merge(graph, nnx.State(params), nnx.State(frozen or {}))


def logical_axes(make: Make) -> dict[str, Tree]:
    """The trees of `init` with, for each array, one logical name (or None) a dimension."""
    params, frozen = _states(_abstract(make))
    return {"params": _names(params), "frozen": _names(frozen)}


def _states(module: nnx.Module) -> tuple[nnx.State, nnx.State]:
    """Its trainable and its frozen variables."""
    return nnx.state(module, nnx.Param), nnx.state(module, Frozen)


def _abstract(make: Make) -> nnx.Module:
    return nnx.eval_shape(lambda: make(nnx.Rngs(0)))


def _names(state: nnx.State) -> Tree:
    def of(variable: nnx.Variable) -> tuple[str | None, ...]:
        return variable.get_metadata("axes")

    names = jax.tree.map(of, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    return nnx.to_pure_dict(names)
