"""The training step: one function for every method."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rsvl_jax import runtime
from rsvl_jax.parallel.sharding import replicated
from rsvl_jax.training import accumulate
from rsvl_jax.training.objective import Objective, ReportsScalars, total
from rsvl_jax.training.optimizer import Optimizer
from rsvl_jax.training.state import TrainState, shardings_of

Tree = Any
Metrics = dict[str, jax.Array]


def make_step(
    objective: Objective,
    optimizer: Optimizer,
    seed: int,
    *,
    micro_batches: int = 1,
    mesh: Mesh | None = None,
) -> Callable[[TrainState, Tree], tuple[TrainState, Metrics]]:
    """step(state, batch) -> (new state, metrics), pure and traceable.

    micro_batches: parts that a batch is taken in, for the memory of one of them, see `accumulate`;
    mesh: over which the batch is split. Raises UserError for an objective that has no parts.

    Random numbers come from fold_in(seed, state.step). An update whose loss or gradient is not
    finite is withheld: parameters, optimizer state and average stay as they are, `step` and
    `skipped` go up by one. The caller decides whether that ends the run.

    metrics, float32 scalars: loss, loss/<term> (unweighted means), grad_norm (before clipping),
    param_norm, learning_rate, the objective's own scalars (all before the update), skipped,
    and the bool `finite`.
    """

    accumulate.check(objective, micro_batches)

    def step(state: TrainState, batch: Tree) -> tuple[TrainState, Metrics]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_fn(params: Tree) -> tuple[jax.Array, Metrics]:
            terms = objective.terms(params, state.frozen, batch, rng)
            return total(terms, objective.weights, state.step)

        if micro_batches > 1:
            (loss, means), grads = accumulate.value_and_grad(
                objective, micro_batches, state, batch, rng, mesh
            )
        else:
            (loss, means), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        grad_norm = optax.global_norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        rate = optimizer.rate(state.step)
        updated = _keep(finite, _update(objective, optimizer, state, grads, rate), state)
        new = replace(
            updated,
            step=state.step + 1,
            skipped=state.skipped + jnp.where(finite, 0, 1),
        )
        metrics = {
            "loss": loss,
            **{f"loss/{name}": value for name, value in means.items()},
            "grad_norm": grad_norm,
            "param_norm": optax.global_norm(state.params),
            "learning_rate": rate,
            **_scalars(objective, state.params),
            "skipped": new.skipped,
            "finite": finite,
        }
        return new, metrics

    return step


def _update(
    objective: Objective, optimizer: Optimizer, state: TrainState, grads: Tree, rate: jax.Array
) -> TrainState:
    """The state after an update by these gradients, `step` not counted yet."""
    direction, opt_state = optimizer.transform.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, jax.tree.map(lambda d: -rate * d, direction))
    params = objective.project(params)
    ema = state.ema
    if ema is not None:
        ema = jax.tree.map(lambda e, p: optimizer.ema * e + (1 - optimizer.ema) * p, ema, params)
    return replace(state, params=params, opt_state=opt_state, ema=ema)


def _keep(finite: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)


def _scalars(objective: Objective, params: Tree) -> Metrics:
    if not isinstance(objective, ReportsScalars):
        return {}
    return {name: jnp.asarray(v, jnp.float32) for name, v in objective.scalars(params).items()}


class CompiledStep:
    """The step compiled ahead, once for each batch shape, with the state donated.

    A compiled program refuses arguments of another shape, type or placement, so a silent second
    compilation is impossible: `compilations` counts batch shapes (one, unless text is trimmed to
    length buckets).
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        abstract: TrainState,
        mesh: Mesh,
        seed: int,
        micro_batches: int = 1,
        lowered: Callable[[jax.stages.Lowered], None] = lambda lowered: None,
    ) -> None:
        """micro_batches: see `make_step`; lowered: shown each program before it is compiled."""
        self._lowered = lowered
        self._mesh = mesh
        self._jitted = jax.jit(
            make_step(objective, optimizer, seed, micro_batches=micro_batches, mesh=mesh),
            donate_argnums=0,
            out_shardings=(shardings_of(abstract), replicated(mesh)),
        )
        self._programs: dict[Any, jax.stages.Compiled] = {}

    @property
    def compilations(self) -> int:
        """Programs compiled so far."""
        return len(self._programs)

    def lower(self, state: TrainState, batch: Tree) -> jax.stages.Lowered:
        """The lowered step for arrays or ShapeDtypeStructs with shardings."""
        with jax.sharding.use_abstract_mesh(self._mesh.abstract_mesh):
            return self._jitted.lower(state, batch)

    def prepare(self, state: TrainState, batch: Tree) -> bool:
        """Compiles for the shape of `batch` where that is new; returns whether it was."""
        key = _signature(batch)
        if key in self._programs:
            return False
        lowered = self.lower(state, batch)
        self._lowered(lowered)
        self._programs[key] = lowered.compile()
        runtime.release_memory()
        return True

    def __call__(self, state: TrainState, batch: Tree) -> tuple[TrainState, Metrics]:
        """One update. `state` is donated: it must not be used again."""
        return self._programs[_signature(batch)](state, batch)


def _signature(batch: Tree) -> Any:
    leaves, treedef = jax.tree.flatten(batch)
    return treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
