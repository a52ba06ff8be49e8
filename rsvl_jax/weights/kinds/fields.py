"""Configs of our modules from JSON, as settings of a stored model hold them."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from rsvl_jax.errors import UserError

Config = TypeVar("Config")


def build(config: type[Config], values: Mapping[str, Any]) -> Config:
    """The dataclass with these fields: objects become the dataclasses in it, lists tuples.

    Raises UserError for a field that is not one of its own, and for one that is missing.
    """
    types = get_type_hints(config)
    known = {field.name for field in fields(config)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - known):
        raise UserError(
            f"unknown settings {unknown} of {config.__name__}: it has {', '.join(sorted(known))}"
        )
    try:
        return config(**{name: _value(types[name], value) for name, value in values.items()})
    except TypeError as error:
        raise UserError(f"incomplete settings of {config.__name__}: {error}") from error


def _value(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value)
    return tuple(value) if isinstance(value, list) else value
