"""Where in a checkpoint's objects the weights are: people save them under many keys."""

from collections.abc import Iterator
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.weights.sources.pickles import Script, TorchTensor

# Keys under which trainers keep the weights, in the order of trust: a teacher is what is published
# of self-distillation, an average what is evaluated.
KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "teacher",
    "model_ema",
    "ema",
    "model",
    "module",
    "net",
    "network",
    "student",
    "weights",
    "params",
)
_WRAPPINGS = 3  # dicts around a state dict
_DEPTH = 64  # of modules inside modules
_NODES = 1_000_000  # attributes looked at

Named = dict[str, TorchTensor]


def find(objects: Any, where: str) -> tuple[Named, list[str]]:
    """The tensors of a checkpoint by name, and remarks on where they were.

    where: names the file in errors. Raises UserError where there are no tensors.
    """
    if isinstance(objects, Script):
        return _script(objects, where), ["read from a TorchScript archive, whose code is not run"]
    place: list[str] = []
    while True:
        tensors = _direct(objects)
        inner = next((key for key in KEYS if _holds(objects, key)), None)
        if tensors and (inner is None or len(tensors) > 1):
            break
        if inner is None or len(place) > _WRAPPINGS:
            raise UserError(f"{where} holds no state dict: {_told(objects)}")
        place.append(inner)
        objects = objects[inner]
    return tensors, _remarks(place, objects, tensors)


def _remarks(place: list[str], objects: dict, tensors: Named) -> list[str]:
    remarks = [f"state dict under {'.'.join(map(repr, place))}"] if place else []
    others = [key for key in objects if key not in tensors]
    if others:
        remarks.append(f"left out beside its tensors: {', '.join(map(str, others[:8]))}")
    return remarks


def _direct(objects: Any) -> Named:
    """The tensors that a dict holds itself."""
    if not isinstance(objects, dict):
        return {}
    return {
        key: value
        for key, value in objects.items()
        if isinstance(key, str) and isinstance(value, TorchTensor)
    }


def _holds(objects: Any, key: str, depth: int = 0) -> bool:
    """Whether a dict has a dict of tensors there, or one that has one."""
    inner = objects.get(key) if isinstance(objects, dict) else None
    if _direct(inner) or not inner or depth >= _WRAPPINGS:
        return bool(_direct(inner))
    return any(_holds(inner, deeper, depth + 1) for deeper in KEYS)


def _told(objects: Any) -> str:
    if not isinstance(objects, dict):
        return f"it is a {type(objects).__name__}"
    keys = ", ".join(str(key)[:40] for key in list(objects)[:8])
    return f"its keys are {keys or 'none'}"


def _script(module: Script, where: str) -> Named:
    found = dict(_walk(module, "", 0, [0]))
    if not found:
        raise UserError(f"{where} is a TorchScript archive without tensors")
    return found


def _walk(
    module: Script, prefix: str, depth: int, seen: list[int]
) -> Iterator[tuple[str, TorchTensor]]:
    if depth > _DEPTH:
        raise UserError(f"modules inside modules to a depth of {depth}: refused")
    for name, value in module.attributes.items():
        seen[0] += 1
        if seen[0] > _NODES:
            raise UserError("more attributes than any model has: refused")
        if isinstance(value, TorchTensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Script):
            yield from _walk(value, f"{prefix}{name}.", depth + 1, seen)
