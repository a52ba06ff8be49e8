"""safetensors files, through the library of that name; sharded ones by their index."""

import json
import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from rsvl_jax.errors import UserError
from rsvl_jax.weights.sources.lazy import Arrays, Tensor
from rsvl_jax.weights.sources.paths import inside

INDEX_BYTES = 64 << 20  # of the index of a sharded checkpoint; real ones have some hundred KB

_DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
}


def read(path: str) -> Arrays:
    """The arrays of a file, mapped into memory.

    The library checks header, shapes and offsets against the file. Raises UserError for what it
    refuses, and for a type of number that NumPy lacks.
    """
    try:
        file = safe_open(path, framework="np")
        names = list(file.keys())
        slices = {name: file.get_slice(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path!r} is not a whole safetensors file: {_plain(error)}") from error
    return Arrays(
        {
            name: Tensor(
                tuple(part.get_shape()), _dtype(path, name, part), partial(file.get_tensor, name)
            )
            for name, part in slices.items()
        }
    )


def _plain(error: Exception) -> str:
    return str(error).removeprefix("Error while deserializing header: ")[:200]


def _dtype(path: str, name: str, part: Any) -> np.dtype:
    code = part.get_dtype()
    if code not in _DTYPES:
        raise UserError(f"{path!r} has {name!r} as {code}: convert it to a type that NumPy has")
    return np.dtype(_DTYPES[code])


def read_index(path: str, read_shard: Any = read) -> tuple[Arrays, list[str]]:
    """The arrays of a sharded checkpoint by its index, and the paths of the shards.

    read_shard: opens one of the files. Raises UserError for an index that is not one, that names a
    file outside its own folder, or whose files lack what it names.
    """
    places = _places(path)
    folder = os.path.dirname(path)
    files = {name: inside(folder, name) for name in sorted(set(places.values()))}
    shards: dict[str, Arrays] = {name: read_shard(file) for name, file in files.items()}
    tensors = {}
    for name, shard in places.items():
        if name not in shards[shard]:
            raise UserError(f"{path!r} says that {name!r} is in {shard!r}, which lacks it")
        tensors[name] = shards[shard].tensors[name]
    return Arrays(tensors), list(files.values())


def _places(path: str) -> Mapping[str, str]:
    """Name of an array -> name of its file."""
    if os.path.getsize(path) > INDEX_BYTES:
        raise UserError(f"{path!r} is an index of {os.path.getsize(path)} bytes: too long for one")
    try:
        with open(path, encoding="utf-8") as file:
            places = json.load(file)["weight_map"]
        if not all(isinstance(name, str) for name in places.values()):
            raise TypeError("names of files must be text")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path!r} is not an index of shards: {error!r}") from error
    return places
