"""Scores that are taken as a run goes."""

from collections.abc import Callable

from rsvl_jax.parallel import distributed
from rsvl_jax.training.metrics import has_scores
from rsvl_jax.training.state import TrainState

Evaluate = Callable[[TrainState, int], dict[str, float]]


class Scoring:
    """Scores of one kind, logged as `kind`/<name>, every so many steps and at the end.

    Attributes:
      kind: "eval", the run's own, or "suite". every: steps; 0: at the end alone.
      done: whether those of the step where the run stands are on disk.
    """

    def __init__(self, score: Evaluate, kind: str, every: int, workdir: str, step: int):
        self.kind, self.every = kind, every
        self._score = score
        self.done: bool = distributed.from_first(has_scores(workdir, step, kind))

    def __call__(self, state: TrainState, step: int) -> dict[str, float]:
        """name -> value, as they are logged."""
        found = self._score(state, step)
        self.done = True
        own = f"{self.kind}/"
        return {own + name.removeprefix(own): float(value) for name, value in found.items()}
