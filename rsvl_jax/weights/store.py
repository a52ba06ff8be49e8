"""Our own directory of weights: config.json, model.safetensors and the tokenizer's files."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from rsvl_jax.errors import UserError
from rsvl_jax.weights import kinds
from rsvl_jax.weights.family import Json, Model
from rsvl_jax.weights.sources import Arrays
from rsvl_jax.weights.sources.opening import read_json
from rsvl_jax.weights.sources.paths import inside
from rsvl_jax.weights.sources.safetensors import read as read_safetensors

FORMAT = "rsvl_jax weights, version 1"
CONFIG, ARRAYS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Stored:
    """A directory of ours.

    Attributes:
      model: what the arrays fill.
      arrays: by "part/path", read lazily.
      family: the layout that they came in, such as "clip-openai".
      source: where from: name, files, sha256, and `licence` where it is known.
      fingerprint: see `fingerprint`.
      tokenizer: paths of tokenizer files by name.
    """

    model: Model
    arrays: Arrays
    family: str
    source: Json
    fingerprint: str
    tokenizer: dict[str, str] = field(default_factory=dict)


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and numbers, in the order of names; 64 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {value.dtype.name} {list(arrays[name].shape)}\n".encode())
        digest.update(value.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def is_stored(folder: str) -> bool:
    """Whether a folder is one of ours."""
    path = os.path.join(folder, CONFIG)
    return os.path.isfile(path) and "format" in read_json(path)


def write(folder: str, stored: Stored) -> str:
    """Writes a directory, whole or not at all, and returns its path.

    Raises UserError where there is something already.
    """
    with new_folder(folder) as temporary:
        save(os.path.join(temporary, ARRAYS), stored.arrays)
        write_json(os.path.join(temporary, CONFIG), describe(stored))
        for name, path in stored.tokenizer.items():
            shutil.copyfile(path, os.path.join(temporary, name))
    return folder


def describe(stored: Stored) -> Json:
    """The content of config.json."""
    model = stored.model
    return {
        "format": FORMAT,
        "family": stored.family,
        "kind": model.kind,
        "settings": model.settings,
        "preprocessing": model.preprocessing,
        "tokenizer": {**model.tokenizer, "files": sorted(stored.tokenizer)},
        "source": stored.source,
        "fingerprint": stored.fingerprint,
    }


def save(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file."""
    # Without "format" the readers of other libraries refuse a file.
    contiguous = {name: np.ascontiguousarray(v).reshape(v.shape) for name, v in arrays.items()}
    save_file(contiguous, path, metadata={"format": "pt"})
    os.chmod(path, 0o644)


def write_json(path: str, content: Json) -> None:
    """Writes a JSON object. Raises ValueError for what JSON cannot say."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, ensure_ascii=False, allow_nan=False)
        file.write("\n")


class new_folder:
    """A context with a temporary folder that takes the name `path` when all went well."""

    def __init__(self, path: str):
        self._path = os.path.abspath(path)
        self._temporary = ""

    def __enter__(self) -> str:
        check_free(self._path)
        parent, name = os.path.split(self._path)
        os.makedirs(parent, exist_ok=True)
        self._temporary = tempfile.mkdtemp(dir=parent, prefix=f".{name}-")
        return self._temporary

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        os.chmod(self._temporary, 0o755)
        os.replace(self._temporary, self._path)


def check_free(path: str) -> None:
    """Raises UserError where something would be overwritten."""
    if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise UserError(f"{path!r} is there already: give another --out, or move it away")


def read(folder: str) -> Stored:
    """Opens a directory; arrays are read when they are asked for.

    Raises UserError where it is not one of ours, or not whole.
    """
    config = read_json(inside(folder, CONFIG))
    if config.get("format") != FORMAT:
        raise UserError(f"{folder!r} has format {config.get('format')!r}, expected {FORMAT!r}")
    try:
        tokenizer = dict(config["tokenizer"])
        files = tokenizer.pop("files", [])
        model = Model(
            config["kind"],
            config["settings"],
            kinds.parts(config["kind"], config["settings"]),
            config["preprocessing"],
            tokenizer,
        )
        return Stored(
            model,
            read_safetensors(inside(folder, ARRAYS)),
            config["family"],
            config["source"],
            config["fingerprint"],
            {name: inside(folder, name) for name in files},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{os.path.join(folder, CONFIG)!r} is damaged: {error!r}") from error
