"""Starts a run from weights: `config.init_from`, part of the model -> where its weights are.

    config.init_from.image = "openai/clip-vit-base-patch16"    a hub name
    config.init_from.text = "bert/"                            a local folder
    config.init_from.location = "satclip-vit16-l40.ckpt"       a file
    config.init_from.model = "runs/flavars"                    a run or a directory of ours: all
    config.init_from.image = "clip/#image/vit"                 that part of it
    config.init_from.expect = ("image/mask_token",)            what may differ, as patterns

Which part of the source fits is found from the names of its arrays. Everything must fit: an array
of that part that the source lacks, one that it has and the model does not, another shape, another
activation, epsilon or norm is an error, unless a pattern of `expect` matches its name. Tables of
positions are brought to the model's grid.
"""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.models.architecture import Architecture
from rsvl_jax.models.positions import resize_table
from rsvl_jax.training.progress import say
from rsvl_jax.training.state import Initial, TrainState
from rsvl_jax.weights import imports, runs, trees
from rsvl_jax.weights.account import Account, few, shape_text
from rsvl_jax.weights.family import Json
from rsvl_jax.weights.names import Shape

EXPECT, WHOLE = "expect", "model"
_TOLD = 6  # problems in one line
_CLOSE = 1e-3  # between means of pixels
_NORMALISATION = ("mean", "std")

# Sections of `config.model` that parts of a model have their sizes and switches in.
_SECTIONS = {"satellite": "image", "ground": "image", "projector": "image"}


@dataclass(frozen=True)
class Given:
    """One entry of the config: what goes where."""

    target: str
    source: str
    part: str | None


@dataclass(frozen=True)
class Weights:
    """A source in our names. origin: JSON for the metadata of checkpoints."""

    arrays: Mapping[str, np.ndarray]
    shapes: Mapping[str, Shape]
    architecture: Architecture
    preprocessing: Json
    account: Account
    origin: Json


@dataclass
class Found:
    """What entries came to. arrays: to start from, by path; problems: name -> what is wrong, where
    `expect` may have the name."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    origin: dict[str, Json] = field(default_factory=dict)


def entries(section: Any) -> list[Given]:
    """What a config asks for, the whole model first, so that parts take the place of its own.

    Raises UserError for a value that is not a text.
    """
    found = []
    for target in sorted(section or (), key=lambda name: (name != WHOLE, name)):
        value = section[target]
        if target == EXPECT or not value:
            continue
        if not isinstance(value, str):
            raise UserError(f"init_from.{target}={value!r} must be a path or a name of the hub")
        source, mark, part = value.partition("#")
        found.append(Given("" if target == WHOLE else target, source, part if mark else None))
    return found


def initial(
    config: Any, architecture: Architecture, *, leave: Sequence[str] = ()
) -> Initial | None:
    """What `training.loop.fit` starts from; None where the config names nothing.

    config: of the run, its `init_from` as above. architecture: of the objective's modules. leave:
    keys of `init_from` that are another's affair. What was loaded, left and unused is printed.
    """
    given = [each for each in entries(config.get("init_from")) if each.target not in leave]
    if not given:
        return None

    def start(abstract: TrainState) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        roots = {"params": abstract.params, "frozen": abstract.frozen}
        places = {path: root for root, tree in roots.items() for path in trees.flat(tree)}
        shapes = {p: leaf.shape for tree in roots.values() for p, leaf in trees.flat(tree).items()}
        found = load(config, given, shapes, architecture)
        for line in found.account.lines(left="left at initialisation"):
            say(line)
        arrays = {f"{places[path]}/{path}": value for path, value in found.arrays.items()}
        return arrays, found.origin

    return start


def load(
    config: Any,
    given: Sequence[Given],
    shapes: Mapping[str, Shape],
    architecture: Architecture,
) -> Found:
    """Arrays for the paths of `shapes` from the sources of a config.

    Raises UserError, one line, for a source that cannot be read, and for all that does not fit and
    is not expected, with the config keys to set.
    """
    found, opened = Found(), {}
    for each in given:
        if each.source not in opened:
            opened[each.source] = open_weights(each.source)
        _take(each, opened[each.source], shapes, architecture, config, found)
    refuse(found.problems, config.init_from.get(EXPECT) or ())
    loaded = {path: value.shape for path, value in found.arrays.items()}
    left = {path: shape for path, shape in shapes.items() if path not in found.arrays}
    found.account = Account(loaded, left, *_unused(opened, found), found.account.remarks)
    return found


def open_weights(name: str) -> Weights:
    """A run, or anything that can be imported. Raises UserError for what cannot be read."""
    if runs.is_run(name):
        run = runs.read(name)
        origin = {"source": name, "step": run.step}
        return Weights(run.arrays, run.arrays.shapes, run.architecture, {}, Account(), origin)
    imported = imports.load(name)
    stored = imported.stored
    return Weights(
        stored.arrays,
        stored.arrays.shapes,
        trees.architectures(stored.model),
        stored.model.preprocessing,
        imported.account,
        {"source": name, "family": stored.family, "fingerprint": stored.fingerprint},
    )


def _take(
    given: Given,
    weights: Weights,
    shapes: Mapping[str, Shape],
    architecture: Architecture,
    config: Any,
    found: Found,
) -> None:
    """Takes what the source has for a target, and notes what does not fit."""
    key = f"init_from.{given.target or WHOLE}"
    if not any(trees.below(path, given.target) is not None for path in shapes):
        tops = sorted({path.split("/")[0] for path in shapes})
        raise UserError(f"{key}: the model has no {given.target!r}; it has {', '.join(tops)}")
    theirs, ours = _match(given, weights.shapes, shapes)
    sources = _relative(weights.shapes, theirs)
    targets = _relative(shapes, ours)
    for path in (p for p in shapes if trees.below(p, given.target) is not None):
        name = trees.below(path, ours)
        if name not in sources:
            found.problems[path] = f"nothing there for {path} {shape_text(shapes[path])}"
            continue
        place = trees.join(theirs, name)
        value = _fitted(weights, place, shapes[path])
        if value.shape == tuple(shapes[path]):
            found.arrays[path] = value
            found.problems.pop(path, None)
        else:
            shown = f"{shape_text(value.shape)} there, {shape_text(shapes[path])} here"
            found.problems[path] = f"{path} is {shown}"
    for name in sources.keys() - targets.keys():
        path = trees.join(ours, name)
        found.problems[path] = f"the model has no place for {path} {shape_text(sources[name])}"
    found.problems |= differences(
        config, ours, _inside(architecture, ours), _inside(weights.architecture, theirs)
    )
    if any(path.endswith("patch_embed/kernel") for path in sources):
        found.problems |= normalisation(config, weights.preprocessing)
    found.origin[given.target or WHOLE] = {**weights.origin, "part": theirs}
    found.account.remarks.append(
        f"{ours or 'the model'} from {theirs or 'all'} of {given.source!r}"
    )


def _relative(shapes: Mapping[str, Shape], start: str) -> dict[str, Shape]:
    """The shapes below a path, by the paths as seen from there."""
    seen = ((trees.below(path, start), shape) for path, shape in shapes.items())
    return {path: shape for path, shape in seen if path is not None}


def _match(given: Given, theirs: Mapping[str, Shape], ours: Mapping[str, Shape]) -> tuple[str, str]:
    """Which part of the source is which part at the target: where most names agree."""
    parts = [given.part] if given.part is not None else _parts(theirs)
    places = [place for place in _parts(ours) if _within(place, given.target)]
    names = {place: _relative(ours, place).keys() for place in places}
    best, chosen = 0, ("", "")
    for part in parts:
        inner = _relative(theirs, part).keys()
        for place in places:
            common = len(inner & names[place])
            if common > best:
                best, chosen = common, (part, place)
    if not best:
        tops = few(sorted({"/".join(path.split("/")[:2]) for path in theirs}), 8)
        raise UserError(
            f"init_from.{given.target or WHOLE}: {given.source!r} has no part like that; it has "
            f"{tops}: name one as SOURCE#PART"
        )
    return chosen


def _parts(paths: Mapping[str, Shape]) -> list[str]:
    """The inner nodes of a tree, from the root down."""
    found = {
        "/".join(path.split("/")[:depth]) for path in paths for depth in range(path.count("/"))
    }
    found |= {path.rpartition("/")[0] for path in paths}
    return sorted(found, key=lambda path: (path.count("/") + bool(path), path))


def _within(path: str, start: str) -> bool:
    return path == start or trees.below(path, start) is not None


def _fitted(weights: Weights, path: str, shape: Shape) -> np.ndarray:
    """An array of the source; a table of positions is brought to the shape, where it can be."""
    value = weights.arrays[path]
    module, _, name = path.rpartition("/")
    if value.shape == tuple(shape) or value.ndim != 2 or value.shape[1:] != tuple(shape[1:]):
        return value
    if name == "position_embed":
        return value[: shape[0]]  # of a shorter text the first positions
    if name == "type_embed":  # only the first is used
        return np.pad(value[:1], ((0, shape[0] - 1), (0, 0)))
    if name != "positions":
        return value
    first = int(weights.architecture.get(module, {}).get("class_token", True))
    old, new = (math.isqrt(count - first) for count in (len(value), shape[0]))
    if old * old + first != len(value) or new * new + first != shape[0]:
        return value
    table = resize_table(jnp.asarray(value[first:], jnp.float32), (old, old), (new, new))
    return np.concatenate([value[:first], np.asarray(jax.device_get(table), value.dtype)])


def _inside(architecture: Architecture, start: str) -> Architecture:
    """The modules at and below a path, by the paths as seen from there."""
    seen = {("" if p == start else trees.below(p, start)): own for p, own in architecture.items()}
    return {path: own for path, own in seen.items() if path is not None}


def differences(
    config: Any, place: str, ours: Architecture, theirs: Architecture
) -> dict[str, str]:
    """Config key -> what a source computes otherwise than the part of the model at `place`."""
    found: dict[str, str] = {}
    for module, own in ours.items():
        other = theirs.get(module, {})
        for name, value in own.items():
            if name in other and other[name] != value:
                key = _config_key(config, trees.join(place, module), name)
                text = f"{key} is {value!r} here, the source has {other[name]!r}"
                found.setdefault(key, text)
    return found


def _config_key(config: Any, module: str, name: str) -> str:
    """The key that sets a property of a module, or the property's own name where none does."""
    name = {"eps": "ln_eps"}.get(name, name)
    model = config.get("model", {})
    top = module.split("/")[0]
    section = _SECTIONS.get(top, top)
    if section in model and name in model[section]:
        return f"model.{section}.{name}"
    return f"model.{name}" if name in model else f"{module}:{name}"


def normalisation(config: Any, preprocessing: Json) -> dict[str, str]:
    """Config key -> how a source normalises pixels, where the run does otherwise."""
    found: dict[str, str] = {}
    for name in _NORMALISATION:
        other, own = preprocessing.get(name), config.get("data", {}).get(name)
        if other and own and not np.allclose(other, own, atol=_CLOSE):
            key = f"data.{name}"
            found[key] = f"{key} is {tuple(own)} here, the source has {tuple(other)}"
    return found


def _unused(
    opened: Mapping[str, Weights], found: Found
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """What the sources have and nobody took: beside the parts, and by names of theirs."""
    unused: dict[str, Shape] = {}
    ignored: dict[str, Shape] = {}
    for name, weights in opened.items():
        taken = [each["part"] for each in found.origin.values() if each["source"] == name]
        beside = (p for p in weights.shapes if not any(_within(p, part) for part in taken))
        unused |= {f"{path} of {name}": weights.shapes[path] for path in beside}
        unused |= {f"{key} of {name}": shape for key, shape in weights.account.unused.items()}
        ignored |= weights.account.ignored
    return unused, ignored


def refuse(problems: Mapping[str, str], expect: Sequence[str]) -> None:
    """Raises UserError for problems that nobody expects."""
    if isinstance(expect, str):
        raise UserError(f"init_from.expect={expect!r} must be a tuple of patterns, ({expect!r},)")
    left = [
        text
        for name, text in problems.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in expect)
    ]
    if left:
        more = f"; and {len(left) - _TOLD} more" if len(left) > _TOLD else ""
        raise UserError(
            f"init_from does not fit: {'; '.join(left[:_TOLD])}{more}. Set these keys, or add what "
            "may differ to init_from.expect"
        )
