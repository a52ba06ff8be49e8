"""The work directory of a run as a source of weights."""

import os
from dataclasses import dataclass

from rsvl_jax.errors import UserError
from rsvl_jax.models.architecture import Architecture
from rsvl_jax.training import arrays, resume
from rsvl_jax.weights import trees
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.sources import Arrays


@dataclass(frozen=True)
class Run:
    """Newest checkpoint of a run.

    Attributes:
      arrays: by path, trainable (their average, where one is kept) and frozen together.
      architecture: what its modules compute, as the objective told; {} of old checkpoints.
      config: resolved.
      step: of the checkpoint.
      assets: files that it carries, such as the tokenizer's.
    """

    arrays: Arrays
    architecture: Architecture
    config: Json
    step: int
    assets: dict[str, bytes]


def has_checkpoints(path: str) -> bool:
    """Whether a folder is the work directory of one run."""
    return os.path.isdir(os.path.join(path, "checkpoints"))


def is_run(path: str) -> bool:
    """Whether a folder is the work directory of a run, or of several."""
    return has_checkpoints(path) or bool(inner(path))


def inner(path: str) -> list[str]:
    """Runs inside a work directory, such as GRAFT's teacher and students."""
    if not os.path.isdir(path):
        return []
    return sorted(n for n in os.listdir(path) if os.path.isdir(f"{path}/{n}/checkpoints"))


def read(path: str) -> Run:
    """The newest checkpoint. Raises UserError where there is none, or several runs."""
    if not has_checkpoints(path):
        choice = ", ".join(os.path.join(path, name) for name in inner(path))
        raise UserError(f"{path!r} holds several runs: name one of {choice}")
    found, metadata = arrays.read(path)
    return Run(
        arrays=Arrays.of(trees.flat(found["params"]) | trees.flat(found["frozen"])),
        architecture=metadata.get("architecture", {}),
        config=metadata["config"],
        step=metadata["step"],
        assets=resume.unpack(metadata),
    )
