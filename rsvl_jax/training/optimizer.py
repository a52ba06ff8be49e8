"""AdamW with decay where it belongs, warm-up and cosine, clipping by the global norm."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import optax

from rsvl_jax.errors import UserError
from rsvl_jax.training.schedules import Lengths, Schedule, learning_rate, resolve_length

Tree = Any

# By leaf name: biases of any rank, and learned tokens and positions, which are biases of the input.
_NO_DECAY = re.compile(r"(^|[/_])(bias|(class|cls|mask)_token|pos(ition)?s?(_embed\w*)?)$")


@dataclass(frozen=True)
class Optimizer:
    """The direction of an update, and how far to go.

    The rate is kept apart from the optax chain because it depends on the run's step, which also
    counts the updates that were skipped.
    """

    transform: optax.GradientTransformation
    rate: Schedule
    ema: float


def make_optimizer(config: Mapping[str, Any], axes: Tree, lengths: Lengths) -> Optimizer:
    """The optimizer of a config section.

    Keys: name ("adamw"), learning_rate, warmup_{steps,epochs,examples,percent}, schedule
    ("cosine", "constant"), weight_decay, b1, b2, eps, clip (global norm, 0 or None: off), ema
    (decay of the parameter average, 0 or None: off).

    axes: logical axes of the parameters, see `decay_mask`.
    Raises UserError for an unknown name and values out of range.
    """
    if config["name"] != "adamw":
        raise UserError(f"optimizer.name={config['name']!r} is unknown; use 'adamw'")
    _check_ranges(config)
    assert lengths.total_steps is not None
    warmup = resolve_length(config, "warmup", lengths, default=0)
    parts = [optax.clip_by_global_norm(config["clip"])] if config.get("clip") else []
    parts += [
        optax.scale_by_adam(b1=config["b1"], b2=config["b2"], eps=config["eps"]),
        optax.add_decayed_weights(config["weight_decay"], mask=decay_mask(axes)),
    ]
    kind = config.get("schedule") or "cosine"
    rate = learning_rate(kind, config["learning_rate"], warmup, lengths.total_steps)
    return Optimizer(optax.chain(*parts), rate, config.get("ema") or 0.0)


def _check_ranges(config: Mapping[str, Any]) -> None:
    for key in ("learning_rate", "weight_decay", "eps", "clip"):
        if not (config.get(key) or 0) >= 0:
            raise UserError(f"optimizer.{key}={config[key]} must be zero or more")
    for key in ("b1", "b2", "ema"):
        if not 0 <= (config.get(key) or 0) < 1:
            raise UserError(f"optimizer.{key}={config[key]} must lie in [0, 1)")


def decay_mask(axes: Tree) -> Tree:
    """True where weight decay applies: matrices and higher, but not learned tokens and positions.

    axes: tree of tuples of logical axis names. The rank of a parameter is counted without the
    "layers" axis, so a stacked norm [layers, D] is still a vector. Left out are norms, logit scales
    and every other vector or scalar (by rank), and biases, class and mask tokens and position
    embeddings (by name), as in BEiT.
    """

    def decays(path: Any, names: tuple[str | None, ...]) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rank = sum(axis != "layers" for axis in names)
        return rank >= 2 and not _NO_DECAY.search(name)

    return jax.tree_util.tree_map_with_path(decays, axes, is_leaf=lambda x: isinstance(x, tuple))
