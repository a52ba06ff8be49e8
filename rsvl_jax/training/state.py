"""The state of a run, and its creation already sharded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from rsvl_jax.parallel.sharding import DEFAULT_RULES, LogicalRules, replicated, tree_shardings
from rsvl_jax.training.objective import Objective
from rsvl_jax.training.optimizer import Optimizer

Tree = Any

# fold_in(seed, k) belongs to step k; the initialisation takes the one number no step can reach.
_INIT_STREAM = 2**32 - 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything a step changes, and the frozen parameters it reads.

    Attributes:
      step: int32 scalar, finished updates, skipped ones included.
      params, frozen: nested dicts, see `Objective.init`.
      opt_state: state of the optax transformation.
      ema: running average of `params`, or None.
      skipped: int32 scalar, updates left out because they were not finite.
    """

    step: jax.Array
    params: Tree
    frozen: Tree
    opt_state: Tree
    ema: Tree | None
    skipped: jax.Array


# (the state as ShapeDtypeStructs) -> arrays to start from in place of random ones, by paths such as
# "params/image/norm/scale", and JSON that says where they come from.
Initial = Callable[[TrainState], tuple[Mapping[str, np.ndarray], dict[str, Any]]]


def _initializer(objective: Objective, optimizer: Optimizer):
    return lambda rng: _first_state(objective.init(rng), optimizer)


def _first_state(trees: dict[str, Tree], optimizer: Optimizer) -> TrainState:
    """The state before the first step, from {"params", "frozen"}."""
    params = trees["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        frozen=trees["frozen"],
        opt_state=optimizer.transform.init(params),
        ema=jax.tree.map(jnp.copy, params) if optimizer.ema else None,
        skipped=jnp.zeros((), jnp.int32),
    )


def abstract_state(
    objective: Objective,
    optimizer: Optimizer,
    mesh: Mesh,
    rules: LogicalRules = DEFAULT_RULES,
) -> TrainState:
    """The state as ShapeDtypeStructs with shardings; nothing is allocated.

    The optimizer's moments and the average follow their parameters, scalars are replicated.
    """
    shapes = jax.eval_shape(_initializer(objective, optimizer), jax.random.key(0))
    axes = objective.logical_axes()
    params = tree_shardings(axes["params"], shapes.params, mesh, rules)
    whole: Any = replicated(mesh)
    shardings = TrainState(
        step=whole,
        params=params,
        frozen=tree_shardings(axes["frozen"], shapes.frozen, mesh, rules),
        opt_state=optax.tree_utils.tree_map_params(
            optimizer.transform,
            lambda _, sharding: sharding,
            shapes.opt_state,
            params,
            transform_non_params=lambda _: whole,
        ),
        ema=params if optimizer.ema else None,
        skipped=whole,
    )
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def create_state(
    objective: Objective,
    optimizer: Optimizer,
    abstract: TrainState,
    seed: int,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> TrainState:
    """A fresh state, created in place on the mesh: no array ever stands whole on one device.

    abstract: from `abstract_state`. The values do not depend on the mesh. arrays: see `Initial`;
    the optimizer and the average start from them, and they take the types of the parameters.
    """
    shardings = shardings_of(abstract)
    rng = jax.random.fold_in(jax.random.key(seed), _INIT_STREAM)
    if not arrays:
        return jax.jit(_initializer(objective, optimizer), out_shardings=shardings)(rng)
    places = {"params": shardings.params, "frozen": shardings.frozen}
    trees = _replaced(jax.jit(objective.init, out_shardings=places)(rng), arrays)
    start = jax.jit(lambda trees: _first_state(trees, optimizer), out_shardings=shardings)
    return start(trees)


def _replaced(trees: Tree, arrays: Mapping[str, np.ndarray]) -> Tree:
    """The trees with these arrays put straight to where the leaves of their paths lie."""

    def leaf(path: Any, old: jax.Array) -> jax.Array:
        new = arrays.get(jax.tree_util.keystr(path, simple=True, separator="/"))
        if new is None:
            return old
        return jax.make_array_from_callback(
            old.shape, old.sharding, lambda index: np.asarray(new[index], old.dtype)
        )

    return jax.tree_util.tree_map_with_path(leaf, trees)


def shardings_of(tree: Tree) -> Tree:
    """The sharding of each array (or ShapeDtypeStruct) of a tree."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)
