"""Lengths in steps, epochs, examples or percent, and learning-rate schedules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rsvl_jax.errors import UserError

Schedule = Callable[[jax.Array], jax.Array]
UNITS = ("steps", "epochs", "examples", "percent")


@dataclass(frozen=True)
class Lengths:
    """What is needed to turn a length into steps.

    Attributes:
      batch_size: global batch.
      dataset_size: records of the training split.
      total_steps: length of the run; None while that itself is being resolved.
    """

    batch_size: int
    dataset_size: int
    total_steps: int | None = None


def resolve_length(
    section: Mapping[str, float | None], name: str, lengths: Lengths, default: int | None = None
) -> int:
    """Steps of a length given as one of `<name>_steps`, `_epochs`, `_examples`, `_percent`.

    With name "" the keys are `steps`, `epochs`, `examples`, `percent`. A key that is missing or
    None counts as not given; 5 epochs of 1,000 records at batch 100 are 50 steps, 5 percent are
    percent of the whole run. Rounded to the nearest step.

    Raises UserError where several units are given, none is (and there is no default), or the value
    is negative or not a number.
    """
    keys = {unit: f"{name}_{unit}" if name else unit for unit in UNITS}
    given = {unit: section.get(key) for unit, key in keys.items() if section.get(key) is not None}
    if not given and default is not None:
        return default
    if len(given) != 1:
        found = ", ".join(f"{keys[unit]}={value}" for unit, value in given.items()) or "none"
        raise UserError(f"set exactly one of {', '.join(keys.values())} (found {found})")
    ((unit, value),) = given.items()
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise UserError(f"{keys[unit]}={value!r} must be a number, zero or more")
    return round(value * _steps_per(unit, keys[unit], lengths))


def _steps_per(unit: str, key: str, lengths: Lengths) -> float:
    if unit == "epochs":
        return lengths.dataset_size / lengths.batch_size
    if unit == "examples":
        return 1 / lengths.batch_size
    if unit == "percent":
        if lengths.total_steps is None:
            raise UserError(f"{key} has nothing to be a percentage of; use steps or epochs")
        return lengths.total_steps / 100
    return 1


def learning_rate(kind: str, peak: float, warmup_steps: int, total_steps: int) -> Schedule:
    """Linear warm-up to `peak`, then "cosine" to zero at `total_steps`, or "constant".

    Takes the number of finished updates (int32 scalar), gives the rate of the next one (float32).
    The first update already has a rate above zero: peak / warmup_steps.
    """
    if kind not in ("cosine", "constant"):
        raise UserError(f"optimizer.schedule={kind!r} is unknown; use 'cosine' or 'constant'")
    if warmup_steps > total_steps:
        raise UserError(
            f"warm-up of {warmup_steps} steps is longer than the run of {total_steps} steps"
        )

    def rate(step: jax.Array) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        value = jnp.minimum(1.0, (step + 1) / max(warmup_steps, 1))
        if kind == "cosine":
            done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
            value *= 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1)))
        return peak * value

    return rate
