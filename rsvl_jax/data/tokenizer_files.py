"""Tokenizers from the files that people have: a folder of a checkpoint, or an installed package."""

import gzip
import importlib.util
import json
import os
from collections.abc import Callable
from typing import Any

from rsvl_jax.data import tokenizer_vocabulary as vocabularies
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, Tokenizer
from rsvl_jax.data.tokenizer_vocabulary import VocabularyTokenizer
from rsvl_jax.errors import UserError

KINDS = ("sentencepiece", "clip", "bert", "roberta", "json")
CLIP_MERGES = "bpe_simple_vocab_16e6.txt.gz"
_CLIP_PIECES = 49_406  # without its two special tokens
_LARGEST = 64 << 20  # bytes of a file


def open_tokenizer(path: str = "", kind: str = "") -> Tokenizer:
    """The tokenizer in a folder or file, local; without a path CLIP's of the installed open_clip.

    kind: one of KINDS, or found from the files: `tokenizer.model` (ours), `vocab.txt` (BERT),
    CLIP's merges, `tokenizer.json`, `vocab.json` with `merges.txt` (CLIP or RoBERTa, by their
    special tokens). Raises UserError for what is not there or is not a tokenizer.
    """
    if kind and kind not in KINDS:
        raise UserError(f"unknown kind of tokenizer {kind!r}: choose one of {', '.join(KINDS)}")
    if not path:
        if kind not in ("", "clip"):
            raise UserError(f"a {kind!r} tokenizer needs the folder of its files")
        return _clip_merges(_installed())
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        present = {name: os.path.join(path, name) for name in os.listdir(path)}
    elif os.path.isfile(path):
        present = {os.path.basename(path): path}
    else:
        raise UserError(f"no tokenizer at {path!r}: give a folder with its files")
    return _of_files(path, present, kind)


def of_model(model: bytes) -> Tokenizer:
    """A tokenizer from its `model`, as checkpoints keep it. UserError for other bytes."""
    if model[:1] == b"{":
        return VocabularyTokenizer.of_model(model)
    return SentencePieceTokenizer.of_model(model)


def _of_files(path: str, present: dict[str, str], kind: str) -> Tokenizer:
    """By what lies there. The vocabularies of CLIP and BERT go before a `tokenizer.json`, which
    does not mend texts as CLIP does."""
    ways: list[tuple[str, tuple[str, ...], Callable[[], Tokenizer]]] = [
        (
            "sentencepiece",
            ("tokenizer.model",),
            lambda: SentencePieceTokenizer(present["tokenizer.model"]),
        ),
        ("clip", (CLIP_MERGES,), lambda: _clip_merges(present[CLIP_MERGES])),
        ("clip", ("vocab.json", "merges.txt"), lambda: vocabularies.clip(*_pairs(present))),
        ("bert", ("vocab.txt",), lambda: _bert(present)),
        ("roberta", ("vocab.json", "merges.txt"), lambda: vocabularies.roberta(*_pairs(present))),
        ("json", ("tokenizer.json",), lambda: _json(present, "")),
        ("clip", ("tokenizer.json",), lambda: _json(present, "clip")),
        ("bert", ("tokenizer.json",), lambda: _json(present, "")),
        ("roberta", ("tokenizer.json",), lambda: _json(present, "")),
    ]
    for name, files, make in ways:
        if kind in ("", name) and all(file in present for file in files):
            if not kind and name == "clip" and not _is_clip(present):
                continue
            return make()
    there = ", ".join(sorted(present)[:8]) or "nothing"
    raise UserError(f"no files of a {kind or 'known'} tokenizer at {path!r}: it has {there}")


def _is_clip(present: dict[str, str]) -> bool:
    if "vocab.json" not in present:
        return CLIP_MERGES in present
    return "<|startoftext|>" in _vocabulary(present["vocab.json"])


def _json(present: dict[str, str], clean: str) -> Tokenizer:
    return VocabularyTokenizer(_text(present["tokenizer.json"]), clean)


def _bert(present: dict[str, str]) -> Tokenizer:
    pieces = _text(present["vocab.txt"]).split("\n")
    while pieces and not pieces[-1]:
        pieces.pop()
    vocabulary = {piece.rstrip("\r"): index for index, piece in enumerate(pieces)}
    config = _object(present["tokenizer_config.json"]) if "tokenizer_config.json" in present else {}
    return vocabularies.bert(vocabulary, lowercase=bool(config.get("do_lower_case", True)))


def _pairs(present: dict[str, str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    lines = _text(present["merges.txt"]).split("\n")
    return _vocabulary(present["vocab.json"]), _merges(present["merges.txt"], lines)


def _vocabulary(path: str) -> dict[str, int]:
    found = _object(path)
    if not all(isinstance(index, int) and index >= 0 for index in found.values()):
        raise UserError(f"{path!r} is no vocabulary: it gives pieces other things than numbers")
    return found


def _merges(path: str, lines: list[str]) -> list[tuple[str, str]]:
    """The pairs of a file of merges, whose first line may tell its version."""
    first = int(bool(lines) and "#version" in lines[0])
    pairs = [tuple(line.split()) for line in lines[first:] if line]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise UserError(f"{path!r} is no list of merges: {' '.join(wrong)[:60]!r} is no pair")
    return pairs  # type: ignore[return-value]


def _clip_merges(path: str) -> Tokenizer:
    """OpenAI's file of merges, from which the vocabulary follows."""
    try:
        with gzip.open(path, "rb") as file:
            content = file.read(_LARGEST).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{path!r} is no file of CLIP's merges: {error}") from error
    letters = vocabularies.byte_letters()
    # The file goes on after the merges that CLIP has.
    lines = content.split("\n")[1 : _CLIP_PIECES - 2 * len(letters) + 1]
    merges = _merges(path, lines)
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    pieces += ["<start_of_text>", "<end_of_text>"]
    return vocabularies.clip({piece: index for index, piece in enumerate(pieces)}, merges)


def _installed() -> str:
    """CLIP's merges in the package open_clip_torch, which is not imported."""
    spec = importlib.util.find_spec("open_clip")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = os.path.join(folder, CLIP_MERGES)
        if os.path.exists(path):
            return path
    raise UserError(
        f"no {CLIP_MERGES} here: give the folder of CLIP's vocabulary, or install it "
        "(pip install --no-deps open_clip_torch)"
    )


def _text(path: str) -> str:
    if os.path.getsize(path) > _LARGEST:
        raise UserError(f"{path!r} has {os.path.getsize(path)} bytes: too long for a vocabulary")
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path!r}: {error}") from error


def _object(path: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path!r} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path!r} holds a {type(found).__name__}, expected an object of keys")
    return found
