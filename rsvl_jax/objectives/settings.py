"""Config values checked on their way into an objective: each error names the key and the value."""

from typing import Any

from jax.sharding import Mesh

from rsvl_jax.errors import UserError
from rsvl_jax.losses.distributed import DENSE, Spread
from rsvl_jax.models.transformer import TransformerConfig
from rsvl_jax.models.vit import CHANNELS

SIZES = ("width", "depth", "heads", "mlp_dim")


def positive(key: str, value: Any) -> int:
    """A whole number above zero. Raises UserError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{key}={value!r} must be a whole number above zero")
    return value


def choice(key: str, value: Any, names: tuple[str, ...]) -> str:
    """One of `names`. Raises UserError for anything else."""
    if value not in names:
        raise UserError(f"{key}={value!r} is unknown: choose one of {', '.join(names)}")
    return value


def channels(key: str, values: Any) -> tuple[float, ...]:
    """One number a channel; a deviation (a key that ends in "std") above zero. Raises UserError."""
    numbers = tuple(float(value) for value in values)
    if len(numbers) != CHANNELS:
        raise UserError(f"{key}={values!r} needs one number for each of {CHANNELS} channels")
    if key.endswith("std") and min(numbers) <= 0:
        raise UserError(f"{key}={values!r} must be above zero: images are divided by it")
    return numbers


def spread(config: Any, mesh: Mesh | None) -> Spread:
    """How contrasts are divided over a mesh, by `config.contrast`; dense where there is none.

    Raises UserError for an implementation or an axis that does not exist.
    """
    section = config.get("contrast")
    if section is None:
        return DENSE
    return Spread(section.implementation, mesh, inner=tuple(section.inner))


def transformer(key: str, sizes: Any, running: Any, *, ln_eps: float) -> TransformerConfig:
    """A stack from config sections: `sizes` (called `key` in errors) and the way of running it.

    sizes: width, depth, heads, mlp_dim; running: activation, init_std (0.02), scan, remat,
    attention, dtype.
    Raises UserError for sizes that cannot be.
    """
    own: dict[str, Any] = {name: positive(f"{key}.{name}", sizes[name]) for name in SIZES}
    return TransformerConfig(
        **own,
        ln_eps=ln_eps,
        activation=running.activation,
        init_std=running.get("init_std", 0.02),
        scan=running.scan,
        remat=running.remat,
        attention=running.attention,
        dtype=running.dtype,
    )
