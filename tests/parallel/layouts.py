"""Five steps of a tiny run of each method, on any mesh."""

import functools

import graft_tiny
import jax
import numpy as np
import tiny
from ml_collections import ConfigDict

from flavars_jax.objective import FlavarsObjective
from graft_jax.objective import GraftObjective
from rsvl_jax.parallel.mesh import make_mesh
from rsvl_jax.parallel.sharding import batch_sharding
from rsvl_jax.training.optimizer import make_optimizer
from rsvl_jax.training.schedules import Lengths
from rsvl_jax.training.state import abstract_state, create_state
from rsvl_jax.training.step import CompiledStep

STEPS = 5
ONE = "one device"
LAYOUTS = {
    ONE: {},
    "data 8": {"data": 8},
    "fsdp 8": {"data": 1, "fsdp": 8},
    "fsdp 4 x tensor 2": {"data": 1, "fsdp": 4, "tensor": 2},
    "replica 2 x data 2 x fsdp 2": {"replica": 2, "data": 2, "fsdp": 2},
}
METHODS = ("flavars", "graft")
# Large beside the rounding of a gradient, which Adam would else blow up where the gradient is zero
# (the bias of attention's keys), and small beside most gradients.
OPTIMIZER = {
    "name": "adamw",
    "learning_rate": 1e-2,
    "schedule": "constant",
    "warmup_steps": 2,
    "weight_decay": 0.1,
    "b1": 0.9,
    "b2": 0.98,
    "eps": 1e-3,
    "clip": 1.0,
    "ema": 0.9,
}


def mesh_of(layout):
    devices = jax.devices()[:1] if layout == ONE else jax.devices()
    return make_mesh(**LAYOUTS[layout], devices=devices)


def objective_of(method, mesh, contrast):
    if method == "flavars":
        config = tiny.config(contrast__implementation=contrast)
        return FlavarsObjective(config, codebook=tiny.codebook(), mesh=mesh)
    config = graft_tiny.config(objective__learn_temperature=True)
    config.contrast = ConfigDict({"implementation": contrast, "inner": ()})
    return GraftObjective(config, mesh=mesh)


def batch_of(method, step):
    if method == "flavars":
        return {"paired": tiny.sample(seed=step)}
    return {"pairs": graft_tiny.sample(seed=step)}


@functools.cache
def run(method, layout, contrast="dense"):
    """(metrics of each step, final state, HLO of the step), the first two on the host."""
    mesh = mesh_of(layout)
    objective = objective_of(method, mesh, contrast)
    optimizer = make_optimizer(
        ConfigDict(OPTIMIZER), objective.logical_axes()["params"], Lengths(8, 64, STEPS)
    )
    abstract = abstract_state(objective, optimizer, mesh)
    state = create_state(objective, optimizer, abstract, seed=3)
    step = CompiledStep(objective, optimizer, abstract, mesh, seed=3)
    program, metrics = None, []
    for number in range(STEPS):
        batch = jax.device_put(batch_of(method, number), batch_sharding(mesh))
        program = program or step.lower(state, batch).compile(tiny.QUICK)
        state, values = program(state, batch)
        metrics.append(jax.device_get(values))
    return metrics, jax.device_get(state), program.as_text()


def gathered(tree):
    """Leaves by path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x) for p, x in leaves}
