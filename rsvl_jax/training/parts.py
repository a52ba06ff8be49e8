"""What follows from a config, before any array exists."""

from collections.abc import Callable
from dataclasses import dataclass

from jax.sharding import Mesh
from ml_collections import ConfigDict

from rsvl_jax.parallel.mesh import check_batch, describe
from rsvl_jax.parallel.sharding import bytes_per_device
from rsvl_jax.parallel.table import check_replicated, table
from rsvl_jax.training import accumulate, artifacts, resume
from rsvl_jax.training.checkpoint import Metadata
from rsvl_jax.training.objective import Objective, TellsArchitecture
from rsvl_jax.training.optimizer import Optimizer, make_optimizer
from rsvl_jax.training.plan import Plan, make_plan
from rsvl_jax.training.progress import say
from rsvl_jax.training.state import (
    Initial,
    TrainState,
    abstract_state,
    create_state,
    shardings_of,
)


@dataclass(frozen=True)
class Parts:
    """The plan, the optimizer, the state as ShapeDtypeStructs, and the metadata of checkpoints."""

    plan: Plan
    objective: Objective
    optimizer: Optimizer
    abstract: TrainState
    metadata: Metadata

    @classmethod
    def make(cls, config: ConfigDict, objective: Objective, manifest: dict, mesh: Mesh) -> "Parts":
        """Raises UserError for a config that cannot be trained on this mesh."""
        plan, lengths = make_plan(config, manifest)
        check_batch(plan.batch_size, mesh)
        accumulate.check(objective, plan.micro_batches)
        accumulate.check_rows(plan.batch_size, plan.micro_batches, mesh)
        axes = objective.logical_axes()["params"]
        optimizer = make_optimizer(config.optimizer, axes, lengths)
        abstract = abstract_state(objective, optimizer, mesh)
        check_replicated(abstract.params, axes, mesh, plan.max_replicated)
        metadata = resume.describe(config, manifest, abstract)
        if isinstance(objective, TellsArchitecture):
            metadata["architecture"] = resume.as_json(objective.architecture())
        return cls(plan, objective, optimizer, abstract, metadata)

    def create(self, initial: Initial | None = None) -> tuple[TrainState, Metadata]:
        """A fresh state, and what metadata are to say of its origin."""
        arrays, origin = initial(self.abstract) if initial else ({}, {})
        state = create_state(self.objective, self.optimizer, self.abstract, self.plan.seed, arrays)
        return state, {"origin": origin} if origin else {}

    def announce(self, mesh: Mesh, workdir: str) -> None:
        """Says where parameters live: in one line, and one by one in a file."""
        text = table(self.abstract.params, self.objective.logical_axes()["params"])
        path = artifacts.write(workdir, "parameters.txt", text.encode() + b"\n")
        size = bytes_per_device(self.abstract, shardings_of(self.abstract)) >> 20
        say(f"mesh {describe(mesh.shape)}: {text.splitlines()[-1]}, {path}")
        say(f"{size} MiB of state a device, with optimizer and average")

    def checker(self, workdir: str) -> Callable[[Metadata], None]:
        """Raises UserError for the metadata of another run, see `resume.check`."""
        return lambda found: resume.check(found, self.metadata, workdir)
