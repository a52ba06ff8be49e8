"""Opens a SOURCE: decides what it is, and finds what lies beside the weights."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rsvl_jax.errors import UserError
from rsvl_jax.weights.sources import hub, npz, safetensors, torch_file
from rsvl_jax.weights.sources.lazy import Arrays
from rsvl_jax.weights.sources.paths import inside

Json = dict[str, Any]

TORCH = (".bin", ".pt", ".pth", ".ckpt")
INDEX = ".index.json"
# Names of weights in a folder, best first; a plain pickle only where there is nothing safer.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
CONFIGS = ("open_clip_config.json", "config.json")
PREPROCESSORS = ("preprocessor_config.json", "image_processor.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "bpe_simple_vocab_16e6.txt.gz",
)
JSON_BYTES = 16 << 20


@dataclass(frozen=True)
class Source:
    """What was found.

    Attributes:
      name: as it was given.
      arrays: by their names.
      files: paths of the weights.
      config: their config.json (or open_clip_config.json); {} without one.
      preprocessor: their preprocessor_config.json; {} without one.
      tokenizer: paths of tokenizer files by name.
      remarks: for people: what was skipped, where a state dict was found.
    """

    name: str
    arrays: Arrays
    files: Sequence[str]
    config: Json = field(default_factory=dict)
    preprocessor: Json = field(default_factory=dict)
    tokenizer: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def sha256(self) -> str:
        """Hash of the files of weights, one after the other, 64 hex digits."""
        digest = hashlib.sha256()
        for path in self.files:
            with open(path, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def open_source(name: str) -> Source:
    """Opens a file (.safetensors, .npz, .bin, .pt, .pth, .ckpt), an index of shards, a folder of
    Hugging Face or open_clip, or the name of a hub's repository (`org/name`, `org/name/file`).

    Names, shapes and types are read, arrays when they are asked for. Raises UserError for what is
    not there, is damaged or hostile: nothing is executed, nothing written.
    """
    path = os.path.expanduser(name)
    if not os.path.exists(path):
        path = hub.fetch(name)
    if os.path.isdir(path):
        return _folder(name, path, _weights_in(path))
    folder, file = os.path.split(path)
    if file in WEIGHTS or file.endswith(INDEX):
        return _folder(name, folder or ".", file)
    arrays, files, remarks = read_file(path)
    return Source(name, arrays, files, remarks=remarks)


def read_file(path: str) -> tuple[Arrays, list[str], list[str]]:
    """Arrays of a file or of an index of shards, the paths read, and remarks.

    Raises UserError for a file that is not one of weights.
    """
    if path.endswith(INDEX):
        return _sharded(path)
    if os.path.getsize(path) == 0:
        raise UserError(f"{path!r} is empty")
    if path.endswith(".safetensors"):
        return safetensors.read(path), [path], []
    if path.endswith(".npz"):
        return npz.read(path), [path], []
    if path.endswith(TORCH):
        arrays, remarks = torch_file.read(path)
        return arrays, [path], remarks
    known = ", ".join((".safetensors", ".npz", *TORCH))
    raise UserError(f"{path!r} is not a file of weights: they end in {known}")


def _sharded(path: str) -> tuple[Arrays, list[str], list[str]]:
    remarks: list[str] = []

    def shard(file: str) -> Arrays:
        if file.endswith(INDEX):
            raise UserError(f"{path!r} names another index, {os.path.basename(file)!r}: refused")
        arrays, _, found = read_file(file)
        remarks.extend(found)
        return arrays

    arrays, files = safetensors.read_index(path, shard)
    return arrays, files, remarks


def _weights_in(folder: str) -> str:
    """The file of weights of a folder. Raises UserError where there is none, or several."""
    present = set(os.listdir(folder))
    for name in WEIGHTS:
        if name in present:
            return name
    for endings in ((".safetensors",), (".npz",), TORCH):
        found = sorted(name for name in present if name.endswith(endings))
        if len(found) > 1:
            raise UserError(f"{folder!r} has several weights ({', '.join(found)}): name the file")
        if found:
            return found[0]
    raise UserError(
        f"no weights in {folder!r}: it has {', '.join(sorted(present)[:8]) or 'nothing'}"
    )


def _folder(name: str, folder: str, weights: str) -> Source:
    """A file of weights with what lies beside it."""
    arrays, files, remarks = read_file(inside(folder, weights))
    present = set(os.listdir(folder))
    return Source(
        name,
        arrays,
        files,
        config=_first_json(folder, CONFIGS if weights.startswith("open_clip") else CONFIGS[::-1]),
        preprocessor=_first_json(folder, PREPROCESSORS),
        tokenizer={file: inside(folder, file) for file in TOKENIZERS if file in present},
        remarks=remarks,
    )


def _first_json(folder: str, names: Sequence[str]) -> Json:
    for name in names:
        if os.path.exists(os.path.join(folder, name)):
            return read_json(inside(folder, name))
    return {}


def read_json(path: str) -> Json:
    """An object of a JSON file. Raises UserError for a file that is not one."""
    if os.path.getsize(path) > JSON_BYTES:
        raise UserError(f"{path!r} has {os.path.getsize(path)} bytes: too long for a config")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path!r} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path!r} holds a {type(content).__name__}, expected an object of keys")
    return content
