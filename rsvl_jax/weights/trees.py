"""Trees as flat dicts: "part/path/of/array" -> leaf, the names of weights in our files."""

from collections.abc import Mapping
from typing import Any

import jax

from rsvl_jax.models import functional
from rsvl_jax.models.architecture import Architecture, architecture
from rsvl_jax.weights.family import Model
from rsvl_jax.weights.names import Shape


def flat(tree: Any) -> dict[str, Any]:
    """Leaves of nested dicts by their path."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flat`."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = leaf
    return tree


def join(*parts: str) -> str:
    """Paths below each other; "" is the root."""
    return "/".join(part for part in parts if part)


def below(path: str, prefix: str) -> str | None:
    """The path as seen from `prefix`, None where it does not lie below it."""
    if not prefix:
        return path
    return path.removeprefix(f"{prefix}/") if path.startswith(f"{prefix}/") else None


def shapes(model: Model) -> dict[str, Shape]:
    """Shape of each array of a model, trainable and frozen; nothing is allocated."""
    found: dict[str, Shape] = {}
    for part, make in model.parts.items():
        trees = jax.eval_shape(lambda rng, make=make: functional.init(make, rng), jax.random.key(0))
        for tree in trees.values():
            found |= {join(part, path): leaf.shape for path, leaf in flat(tree).items()}
    return found


def architectures(model: Model) -> Architecture:
    """What the modules of a model compute, by path; see `models.architecture`."""
    found: Architecture = {}
    for part, make in model.parts.items():
        found |= {join(part, path): own for path, own in architecture(make).items()}
    return found
