"""The step that a main runs, from its config alone: no data, no accelerator, no arrays."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import flavars_jax.settings
import graft_jax.settings
from flavars_jax.objective import FlavarsObjective
from graft_jax.objective import GraftObjective, GroundTower
from launch.aot import batches
from rsvl_jax.errors import UserError
from rsvl_jax.models import backend, clip, functional
from rsvl_jax.parallel.mesh import check_batch
from rsvl_jax.training.objective import Objective
from rsvl_jax.training.optimizer import Optimizer, make_optimizer
from rsvl_jax.training.plan import make_plan
from rsvl_jax.training.state import TrainState, abstract_state
from rsvl_jax.training.step import CompiledStep

Tree = Any
# Of the training split, where a length is given in epochs: schedules are constants of the program,
# and nothing that is reported depends on them.
_RECORDS = 1_000_000


@dataclass(frozen=True)
class Program:
    """A step before it is compiled.

    Attributes:
      method: "flavars", or "graft" (its student).
      objective, optimizer: what is trained and how.
      state, batch: ShapeDtypeStructs with shardings on the mesh.
    """

    method: str
    config: ConfigDict
    mesh: Mesh
    objective: Objective
    optimizer: Optimizer
    state: TrainState
    batch: Tree

    @classmethod
    def make(cls, config: ConfigDict, mesh: Mesh) -> "Program":
        """The step of a config on a mesh of real or of described devices.

        Raises UserError for what a main would refuse.
        """
        check_batch(config.data.batch_size, mesh)
        method = "graft" if "level" in config.objective else "flavars"
        with traced_for(mesh):
            objective, batch = (_graft if method == "graft" else _flavars)(config, mesh)
            _, lengths = make_plan(config, {"splits": {"train": _RECORDS}})
            axes = objective.logical_axes()["params"]
            optimizer = make_optimizer(config.optimizer, axes, lengths)
            state = abstract_state(objective, optimizer, mesh)
        return cls(method, config, mesh, objective, optimizer, state, batch)

    def lower(self) -> jax.stages.Lowered:
        """The step, lowered for the kind of device that the mesh has."""
        with traced_for(self.mesh):
            step = CompiledStep(
                self.objective, self.optimizer, self.state, self.mesh, self.config.seed
            )
            return step.lower(self.state, self.batch)


@contextlib.contextmanager
def traced_for(mesh: Mesh) -> Iterator[None]:
    """Programs traced inside are for the kind of device that the mesh has."""
    with backend.compiling_for(mesh.devices.flat[0].platform):
        yield


def _flavars(config: ConfigDict, mesh: Mesh) -> tuple[Objective, Tree]:
    settings = flavars_jax.settings.from_config(config)
    if settings.predicts_codes and settings.image_tokenizer == "dalle":
        raise UserError(
            "objective.image_tokenizer='dalle' needs the weights of the DALL-E encoder; "
            "use 'patches' to compile ahead"
        )
    shape = settings.codebook_size, settings.image.patch_size**2 * 3
    objective = FlavarsObjective(config, codebook=_nothing(shape), mesh=mesh)
    return objective, batches.flavars(config, settings, mesh)


def _graft(config: ConfigDict, mesh: Mesh) -> tuple[Objective, Tree]:
    ground = _ground(config) if config.data.ground == "step" else None
    return GraftObjective(config, ground=ground, mesh=mesh), batches.graft(config, mesh)


def _ground(config: ConfigDict) -> GroundTower:
    """A ground tower of the student's sizes, as a run trains its teacher."""
    settings = graft_jax.settings.from_config(config)
    shapes = jax.eval_shape(
        lambda rng: functional.init(lambda rngs: clip.ClipVision(settings.satellite, rngs), rng),
        jax.random.key(0),
    )["params"]
    params = jax.tree.map(lambda leaf: _nothing(leaf.shape), shapes)
    return GroundTower(settings.satellite, params, settings.mean, settings.std)


def _nothing(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros float32 that take no memory."""
    return np.broadcast_to(np.float32(0), shape)
