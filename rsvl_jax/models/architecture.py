"""What a module computes beside its arrays: two with equal arrays may still be different functions.

Weights of one activation, epsilon or norm run under another without an error, and badly. So what
is not seen in shapes is told as JSON, and compared when weights are loaded.
"""

from dataclasses import fields, is_dataclass
from typing import Any

from flax import nnx

from rsvl_jax.models.functional import Make

Architecture = dict[str, dict[str, Any]]

# What only says how a function is run or trained; sizes, which the shapes of arrays tell; and the
# ways to use a module, which are the user's.
_RUNNING = {"dropout", "scan", "remat", "attention", "slices", "dtype", "init_std"}
_SIZES = {"image_size", "patch_size", "width", "depth", "heads", "mlp_dim", "embed_dim", "dim"}
_SIZES |= {"vocab_size", "max_length", "image_width", "text_width", "encoder_width", "patch_dim"}
_SIZES |= {"degree", "frequencies", "sigmas", "mask_token", "logit_scale_init"}
_LEFT_OUT = _RUNNING | _SIZES


def architecture(make: Make) -> Architecture:
    """Path of each submodule -> its properties by name: numbers, texts, tuples (as lists).

    Nothing is allocated. "" is the module itself; "class" the name of its type.
    """
    found: Architecture = {}
    _describe(nnx.eval_shape(lambda: make(nnx.Rngs(0))), "", found)
    return found


def _describe(module: nnx.Module, path: str, found: Architecture) -> None:
    own: dict[str, Any] = {}
    for name, value in vars(module).items():
        if isinstance(value, nnx.Module):
            _describe(value, f"{path}/{name}" if path else name, found)
        elif name == "cfg" and is_dataclass(value):
            own |= {field.name: getattr(value, field.name) for field in fields(value)}
        elif not name.startswith("_") and name not in own:
            own[name] = value
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in own.items() if _plain(v)}
    found[path] = {"class": type(module).__name__} | {
        name: value for name, value in plain.items() if name not in _LEFT_OUT
    }


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return isinstance(value, bool | int | float | str)
