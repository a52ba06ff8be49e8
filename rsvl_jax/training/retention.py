"""Which of a run's checkpoints stay on disk; with `checkpoint`, all that knows Orbax."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from orbax.checkpoint import checkpoint_managers as policies

from rsvl_jax.errors import UserError

# Kinds of scores, which their names begin with: of the run's own evaluation, and of a suite.
SCORES = ("eval", "suite")
_SCORE = "score"  # its name in Orbax's own record of a checkpoint


@dataclass(frozen=True)
class Retention:
    """The latest checkpoints, and some of the older ones.

    Attributes:
      keep: how many of the latest.
      every: those of steps that it divides, too; 0: none.
      best: the one with the highest score of this name, such as "eval/zeroshot/accuracy" or
        "suite/...", among those that were saved with scores of that kind; with a "-" before it, the
        lowest; "": none.

    Raises UserError for numbers that make no sense.
    """

    keep: int = 1
    every: int = 0
    best: str = ""

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UserError(f"checkpoint.keep={self.keep} must be 1 or more")
        if self.every < 0:
            raise UserError(f"checkpoint.keep_every={self.every} must be a step, or 0 for none")
        if self.best and self._kind not in SCORES:
            raise UserError(
                f"checkpoint.keep_best={self.best!r} is no score: use a name that begins with "
                f"{' or '.join(f'{kind}/' for kind in SCORES)}"
            )

    @property
    def _kind(self) -> str:
        return self.best.removeprefix("-").split("/")[0]

    def policy(self) -> policies.PreservationPolicy:
        """As Orbax takes it."""
        kept: list[policies.PreservationPolicy] = [policies.LatestN(self.keep)]
        if self.every:
            kept.append(policies.EveryNSteps(self.every))
        if self.best:
            lowest = self.best.startswith("-")
            best = policies.BestN(
                get_metric_fn=stored, reverse=lowest, n=1, keep_checkpoints_without_metrics=False
            )
            kept.append(best)
        return policies.AnyPreservationPolicy(kept)

    def score(self, scores: Mapping[str, float] | None) -> dict[str, float] | None:
        """What is stored with a checkpoint of these scores; None where it cannot be the best.

        Raises UserError where the score to go by is not among them.
        """
        name = self.best.removeprefix("-")
        if not name or not any(other.startswith(f"{self._kind}/") for other in scores or ()):
            return None
        assert scores is not None
        if name not in scores:
            near = difflib.get_close_matches(name, scores, n=1, cutoff=0.0)
            raise UserError(
                f"checkpoint.keep_best={self.best!r} is no score of the evaluation: "
                f"did you mean {near[0] if near else 'none'!r}?"
            )
        return {_SCORE: scores[name]} if np.isfinite(scores[name]) else None


def stored(metrics: Mapping[str, float]) -> float:
    """The score of a checkpoint from what is stored with it."""
    return metrics[_SCORE]
