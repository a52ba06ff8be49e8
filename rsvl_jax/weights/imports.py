"""Loads a source into a model of ours, whatever the source is; and keeps it in a directory."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights import families, names, store, trees
from rsvl_jax.weights.account import Account, few, shape_text
from rsvl_jax.weights.family import Family, Json, Model, Shapes
from rsvl_jax.weights.sources import Arrays, Source, open_source
from rsvl_jax.weights.store import Stored

# What wrappers put before every name: PyTorch's parallel and compiled modules, Lightning, and
# self-distillation. Tried where the names as they are belong to no family.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "encoder.", "student.")
_WRAPPED = 3  # times
_FLOATS = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Imported:
    """A source in our names: what `store.write` keeps, and the account."""

    stored: Stored
    account: Account


def load(name: str, *, family: str | None = None, allow_nonfinite: bool = False) -> Imported:
    """Opens a source, recognises its family (unless it is named) and maps its arrays to ours.

    A directory of ours is taken as it is. Raises UserError for a source that cannot be read, that
    no family knows, whose arrays are not those of its model, or are not finite.
    """
    if is_ours(name):
        stored = store.read(os.path.expanduser(name))
        check_numbers(name, stored.arrays, allow_nonfinite)
        return Imported(stored, Account(loaded=stored.arrays.shapes))
    source = open_source(name)
    known, arrays, remarks = identify(source, family)
    model, shapes = _model(known, arrays, source)
    loaded = names.load(known.entries(model.settings), arrays, shapes)
    _check(source, known, model, loaded, shapes)
    check_numbers(name, loaded.arrays, allow_nonfinite)
    ignored = [n for n in loaded.unused if n.startswith(known.ignored)] if known.ignored else []
    account = Account(
        loaded={path: value.shape for path, value in loaded.arrays.items()},
        left={path: shapes[path] for path in loaded.missing},
        unused={n: arrays.tensors[n].shape for n in loaded.unused if n not in ignored},
        ignored={n: arrays.tensors[n].shape for n in ignored},
        remarks=[f"family {known.name}: {known.title}", *source.remarks, *remarks],
    )
    stored = Stored(
        model,
        Arrays.of(loaded.arrays),
        known.name,
        _origin(source, known),
        store.fingerprint(loaded.arrays),
        source.tokenizer,
    )
    return Imported(stored, account)


def tokenizer_of(name: str) -> tuple[Json, dict[str, str]]:
    """What a source says of its tokenizer, {} without texts, and the paths of its files by name.

    No array is read. Raises UserError as `load`.
    """
    if is_ours(name):
        stored = store.read(os.path.expanduser(name))
        return stored.model.tokenizer, stored.tokenizer
    source = open_source(name)
    family, arrays, _ = identify(source)
    return _model(family, arrays, source)[0].tokenizer, source.tokenizer


def is_ours(name: str) -> bool:
    """Whether a name is the path of a directory of ours."""
    path = os.path.expanduser(name)
    return os.path.isdir(path) and store.is_stored(path)


def _origin(source: Source, family: Family) -> Json:
    files = [os.path.basename(path) for path in source.files]
    origin: Json = {"name": source.name, "files": files, "sha256": source.sha256()}
    return origin | ({"licence": family.licence} if family.licence else {})


def identify(source: Source, family: str | None = None) -> tuple[Family, Arrays, list[str]]:
    """The family of a source, its arrays by the family's names, and remarks.

    Raises UserError where there is none.
    """
    wanted = None if family is None else families.find(family)
    for prefix, arrays in unwrapped(source.arrays):
        known = _recognise(arrays.shapes, wanted)
        if known is not None:
            dropped = len(source.arrays) - len(arrays)
            more = f"; {dropped} arrays without it are left out" if dropped else ""
            return known, arrays, [f"names begin with {prefix!r}{more}"] if prefix else []
    if wanted is not None:
        return wanted, source.arrays, [f"the names do not look like {wanted.name}, as was asked"]
    families.recognise(source.arrays.shapes)
    raise AssertionError("recognised the second time")


def _recognise(shapes: Shapes, wanted: Family | None) -> Family | None:
    known = families.FAMILIES if wanted is None else (wanted,)
    return next((family for family in known if family.recognises(shapes)), None)


def unwrapped(arrays: Arrays) -> list[tuple[str, Arrays]]:
    """The arrays as they are, and without what wrappers put before their names."""
    found = [("", arrays)]
    for prefix, inner in found:
        for wrapper in WRAPPERS:
            bare = inner.below(wrapper)
            if bare and (prefix + wrapper).count(".") <= _WRAPPED:
                found.append((prefix + wrapper, bare))
    return found


def _model(
    family: Family, arrays: Arrays, source: Source
) -> tuple[Model, Mapping[str, names.Shape]]:
    """The model that the arrays fill, its preprocessing as the source's own file says; its shapes.

    Raises UserError for names and shapes that no model has.
    """
    try:
        model = family.model(arrays.shapes, source.config)
        shapes = trees.shapes(model)
        entries = family.entries(model.settings)
    except (LookupError, ValueError, TypeError, ArithmeticError) as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{source.name!r} is not a whole {family.name} model: {text}") from error
    layers = [shapes[e.ours][0] for e in entries if e.layered and e.ours in shapes]
    if max(layers, default=0) > len(arrays):
        raise UserError(f"{source.name!r} counts {max(layers)} layers in {len(arrays)} arrays")
    own = _preprocessing(source.preprocessor)
    return replace(model, preprocessing={**model.preprocessing, **own}), shapes


def _preprocessing(config: Json) -> Json:
    """Mean and standard deviation of a preprocessor_config.json."""
    found = {"mean": config.get("image_mean"), "std": config.get("image_std")}
    return {key: list(value) for key, value in found.items() if isinstance(value, list)}


def _check(
    source: Source,
    family: Family,
    model: Model,
    loaded: names.Loaded,
    shapes: Mapping[str, names.Shape],
) -> None:
    """Raises UserError for a model that the arrays do not fill."""
    if loaded.mismatched:
        path, ours, theirs = loaded.mismatched[0]
        raise UserError(
            f"{source.name!r} does not fit the {family.name} model that its sizes ask for: {path} "
            f"is {shape_text(theirs)}, expected {shape_text(ours)}"
            + f", and {len(loaded.mismatched) - 1} more"
            * (len(loaded.mismatched) > 1)
        )
    needed = {entry.ours for entry in family.entries(model.settings) if not entry.optional}
    absent = [path for path in loaded.missing if path in needed]
    if absent:
        raise UserError(
            f"{source.name!r} is not a whole checkpoint of {family.name}: nothing for {few(absent)}"
        )
    if not loaded.arrays:
        raise UserError(f"{source.name!r} has nothing for {few(shapes)}")


def check_numbers(name: str, arrays: Mapping[str, np.ndarray], allow_nonfinite: bool) -> None:
    """Raises UserError for arrays that are not of floats, or (unless allowed) not finite."""
    for path in arrays:
        value = arrays[path]
        if value.dtype.name not in _FLOATS:
            raise UserError(f"{name!r}: {path} is {value.dtype.name}; weights are floats")
        if not allow_nonfinite and not np.isfinite(value).all():
            bad = int((~np.isfinite(value)).sum())
            raise UserError(
                f"{name!r}: {path} has {bad} of {value.size} numbers that are NaN or infinite; "
                "--allow_nonfinite takes them"
            )
