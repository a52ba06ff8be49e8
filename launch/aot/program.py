"""The step that a main runs, from its config alone: no data, no accelerator, no arrays."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

import flavars_jax.settings
import graft_jax.settings
from flavars_jax.objective import FlavarsObjective, brings_tokenizer
from graft_jax.objective import GraftObjective, GroundTower
from launch.aot import batches
from rsvl_jax.errors import UserError
from rsvl_jax.models import backend, clip, functional
from rsvl_jax.parallel.mesh import check_batch
from rsvl_jax.training.objective import Objective
from rsvl_jax.training.optimizer import Optimizer
from rsvl_jax.training.parts import Parts
from rsvl_jax.training.state import TrainState
from rsvl_jax.training.step import CompiledStep, make_step

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
      micro_batches: parts that the step takes its batch in.
      state, batch: ShapeDtypeStructs with shardings on the mesh.
    """

    method: str
    config: ConfigDict
    mesh: Mesh
    objective: Objective
    optimizer: Optimizer
    state: TrainState
    batch: Tree
    micro_batches: int = 1

    @classmethod
    def make(cls, config: ConfigDict, mesh: Mesh) -> "Program":
        """The step of a config on a mesh of real or of described devices.

        Raises UserError for what a main would refuse.
        """
        check_batch(config.data.batch_size, mesh)
        method = "graft" if "level" in config.objective else "flavars"
        with traced_for(mesh):
            objective, batch = (_graft if method == "graft" else _flavars)(config, mesh)
            parts = Parts.make(config, objective, {"splits": {"train": _RECORDS}}, mesh)
        return cls(
            method,
            config,
            mesh,
            objective,
            parts.optimizer,
            parts.abstract,
            batch,
            parts.plan.micro_batches,
        )

    @property
    def step(self) -> Callable[[TrainState, Tree], tuple[TrainState, Tree]]:
        """The step as a function that can be traced."""
        return make_step(
            self.objective,
            self.optimizer,
            self.config.seed,
            micro_batches=self.micro_batches,
            mesh=self.mesh,
        )

    def lower(self) -> jax.stages.Lowered:
        """The step, lowered for the kind of device that the mesh has."""
        with traced_for(self.mesh):
            step = CompiledStep(
                self.objective,
                self.optimizer,
                self.state,
                self.mesh,
                self.config.seed,
                self.micro_batches,
            )
            return step.lower(self.state, self.batch)


@contextlib.contextmanager
def traced_for(mesh: Mesh) -> Iterator[None]:
    """Programs traced inside are for the kind of device that the mesh has."""
    with backend.compiling_for(mesh.devices.flat[0].platform):
        yield


def _flavars(config: ConfigDict, mesh: Mesh) -> tuple[Objective, Tree]:
    settings = flavars_jax.settings.from_config(config)
    codebook = None
    if settings.predicts_codes and not brings_tokenizer(config):
        codebook = _codebook(settings)
    objective = FlavarsObjective(config, codebook=codebook, mesh=mesh)
    return objective, batches.flavars(config, settings, mesh)


def _codebook(settings: flavars_jax.settings.Settings) -> np.ndarray:
    """Stands for one that is fitted."""
    if settings.image_tokenizer == "dalle":
        raise UserError(
            "objective.image_tokenizer='dalle' needs the weights of the DALL-E encoder: set "
            "config.init_from.tokenizer; any name will do to compile ahead"
        )
    return nothing((settings.codebook_size, settings.image.patch_size**2 * 3))


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
    params = jax.tree.map(lambda leaf: nothing(leaf.shape), shapes)
    return GroundTower(settings.satellite, params, settings.mean, settings.std)


def nothing(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros float32 that take no memory."""
    return np.broadcast_to(np.float32(0), shape)
