"""Weights of loss terms: numbers, or ramps over the steps."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rsvl_jax.errors import UserError
from rsvl_jax.training.objective import Weight

RAMP = ("from", "to", "start", "end")


def active(specs: Mapping[str, Any]) -> dict[str, Weight]:
    """The weights of the terms that are on: not the number 0.

    specs: name -> number, {"value": number}, or the linear ramp {"from": number, "to": number,
    "start": step, "end": step}, constant before and after. Raises UserError for anything else.
    """
    parsed = {name: weight(name, spec) for name, spec in specs.items()}
    return {name: value for name, value in parsed.items() if callable(value) or value}


def weight(name: str, spec: Any) -> Weight:
    """The weight of one term, see `active`."""
    if not hasattr(spec, "items"):
        return _number(name, spec)
    fields = dict(spec.items())
    if set(fields) == {"value"}:
        return _number(name, fields["value"])
    if set(fields) != set(RAMP):
        raise UserError(
            f"weight of {name} has the keys {sorted(fields)}: give a number, or {', '.join(RAMP)}"
        )
    first, last, start, end = (_number(name, fields[key]) for key in RAMP)
    if end <= start:
        raise UserError(f"weight of {name} ramps from step {start:g} to {end:g}: end after start")

    def ramp(step: jax.Array) -> jax.Array:
        done = jnp.clip((jnp.asarray(step, jnp.float32) - start) / (end - start), 0, 1)
        return first + (last - first) * done

    return ramp


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise UserError(f"weight of {name} is {value!r}: it must be a number, zero or more")
    return float(value)
