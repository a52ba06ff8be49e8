"""The modules of a model from one flat dict of arrays, as a traced function sees them."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from rsvl_jax.models import functional
from rsvl_jax.weights import trees
from rsvl_jax.weights.family import Model

Flat = dict[str, Any]


class Modules:
    """Some parts of a model: which arrays they need, and how these make modules."""

    def __init__(self, model: Model, wanted: Iterable[str]):
        """wanted: names of parts; those that the model lacks are left out."""
        self._makes = {name: model.parts[name] for name in wanted if name in model.parts}
        self._graphs = {name: functional.structure(make) for name, make in self._makes.items()}
        self._shapes = {name: _shapes(make) for name, make in self._makes.items()}

    def __contains__(self, name: str) -> bool:
        return name in self._makes

    def arrays(self, stored: Mapping[str, np.ndarray]) -> Flat:
        """The arrays that the parts need, float32, by "part/path".

        Raises KeyError for one that is not there.
        """
        paths = (
            trees.join(part, path)
            for part, kinds in self._shapes.items()
            for names in kinds.values()
            for path in names
        )
        return {path: np.asarray(stored[path]).astype(np.float32) for path in paths}

    def bind(self, arrays: Flat) -> dict[str, Any]:
        """Modules by the name of their part. Works inside `jax.jit`."""
        return {name: self._module(name, arrays) for name in self._makes}

    def _module(self, part: str, arrays: Flat) -> Any:
        found = {
            kind: trees.nested({path: arrays[trees.join(part, path)] for path in names})
            for kind, names in self._shapes[part].items()
        }
        return functional.bind(self._graphs[part], found["params"], found["frozen"])


def _shapes(make: functional.Make) -> dict[str, list[str]]:
    """Paths of the trainable and of the frozen arrays of a module."""
    found = jax.eval_shape(lambda rng: functional.init(make, rng), jax.random.key(0))
    return {kind: list(trees.flat(tree)) for kind, tree in found.items()}
