"""A case put through its family and our modules, and how far the numbers are apart."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors.numpy import save_file

from rsvl_jax.models import functional
from rsvl_jax.weights import names
from rsvl_jax.weights.family import Family, Model

NOTHING = 1e-6  # of the largest gradient: what rounding leaves of one that is zero in mathematics


@dataclass(frozen=True)
class Imported:
    """A checkpoint of a family as ours. arrays: by path "part/..."; frozen: paths never trained."""

    family: Family
    model: Model
    arrays: dict[str, np.ndarray]
    frozen: frozenset[str]
    loaded: names.Loaded

    def module(self, part: str, arrays: dict[str, Any] | None = None) -> Any:
        """A part as a module, with these arrays instead of the imported ones."""
        own = (self.arrays if arrays is None else arrays).items()
        trees: dict[str, dict] = {"params": {}, "frozen": {}}
        for path, value in own:
            name, _, inner = path.partition("/")
            if name == part:
                trees["frozen" if path in self.frozen else "params"][inner] = jnp.asarray(value)
        graph = functional.structure(self.model.parts[part])
        nested = {key: traverse_util.unflatten_dict(tree, sep="/") for key, tree in trees.items()}
        return functional.bind(graph, nested["params"], nested["frozen"])


def shapes_of(model: Model) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Path of each array -> (its shape, whether it is frozen); allocates nothing."""
    found = {}
    for part, make in model.parts.items():
        trees = jax.eval_shape(lambda rng, make=make: functional.init(make, rng), jax.random.key(0))
        for kind, tree in trees.items():
            for path, leaf in traverse_util.flatten_dict(tree, sep="/").items():
                found[f"{part}/{path}"] = (tuple(leaf.shape), kind == "frozen")
    return found


def imported(family: Family, weights: dict[str, np.ndarray], config: dict | None = None):
    """The checkpoint as ours; fails where anything is missing, left over or of another shape."""
    shapes = {name: value.shape for name, value in weights.items()}
    assert family.recognises(shapes)
    model = family.model(shapes, config or {})
    ours = shapes_of(model)
    kept = {k: v for k, v in weights.items() if not k.startswith(family.ignored or ("\0",))}
    loaded = names.load(
        family.entries(model.settings), kept, {path: shape for path, (shape, _) in ours.items()}
    )
    assert (loaded.missing, loaded.unused, loaded.mismatched) == ([], [], [])
    frozen = frozenset(path for path, (_, is_frozen) in ours.items() if is_frozen)
    return Imported(family, model, loaded.arrays, frozen, loaded)


def trained(model: Imported) -> dict[str, np.ndarray]:
    """The arrays that have gradients."""
    return {path: value for path, value in model.arrays.items() if path not in model.frozen}


def exported(model: Imported, arrays: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Arrays of ours under their names, the imported ones by default; only those given."""
    given = model.arrays if arrays is None else {k: np.asarray(v) for k, v in arrays.items()}
    entries = model.family.entries(model.model.settings)
    return names.dump([entry for entry in entries if entry.ours in given], given)


def write_folder(folder: Path, model: Imported) -> Path:
    """A folder as `transformers` reads it."""
    folder.mkdir(parents=True)
    save_file(exported(model), folder / "model.safetensors", metadata={"format": "pt"})
    config = model.family.config(model.model.settings)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def check_round_trip(model: Imported, weights: dict[str, np.ndarray]) -> None:
    """Out and in again: bit by bit the same, theirs and ours."""
    back = exported(model)
    for name, value in back.items():
        assert value.dtype == weights[name].dtype and value.shape == weights[name].shape, name
        np.testing.assert_array_equal(value, weights[name], err_msg=name)
    kept = {k for k in weights if not k.startswith(model.family.ignored or ("\0",))}
    assert set(back) == kept
    again = imported(model.family, back, model.family.config(model.model.settings))
    assert again.model.settings == model.model.settings
    for path, value in model.arrays.items():
        np.testing.assert_array_equal(again.arrays[path], value, err_msg=path)


def check_close(actual: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """Same names; each array within `tolerance` of its largest value."""
    assert set(actual) == set(expected)
    errors = {name: _error(actual[name], expected[name]) for name in expected}
    worst = max(errors, key=lambda name: errors[name])
    assert errors[worst] <= tolerance, (worst, errors[worst])


def check_gradients(actual: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    """As `check_close`; what is zero in mathematics (of a key's bias, say) must be near zero."""
    assert set(actual) == set(expected)
    largest = max(np.abs(value).max() for value in expected.values())
    zero = {name for name, g in expected.items() if np.abs(g).max() <= NOTHING * largest}
    for name in zero:
        assert np.abs(actual[name]).max() <= NOTHING * largest, name
    rest = set(expected) - zero
    assert rest
    check_close({n: actual[n] for n in rest}, {n: expected[n] for n in rest}, tolerance)


def _error(actual: Any, expected: Any) -> float:
    """The largest difference, over the largest value."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(actual).all()
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-30))
