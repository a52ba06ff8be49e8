"""Folders of other people's models as `transformers` writes them, from stored cases."""

import json
from pathlib import Path

import stored
from safetensors.numpy import save_file

_TOKENIZERS = stored.FOLDER / "tokenizers.json"


def write(folder: Path, case: str, words: dict[str, str] | None = None) -> Path:
    """The weights and the config of a case; words: files of a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    found = stored.read(case)
    save_file(found.weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(found.config))
    for name, content in (words or {}).items():
        (folder / name).write_text(content)
    return folder


def clip(folder: Path) -> Path:
    """CLIP, whose 40 words are 18 letters, again as the ends of words, and more that end words."""
    letters = "abcdefghijklmnopqr"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "s</w>", "t</w>"]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = json.dumps({piece: index for index, piece in enumerate(pieces)})
    merges = "#version: 0.2\n"
    return write(folder, "clip_quick_gelu", {"vocab.json": vocabulary, "merges.txt": merges})


def bert(folder: Path) -> Path:
    """BERT with a vocabulary of its kind (more words than the case has rows of embeddings)."""
    return write(folder, "bert", json.loads(_TOKENIZERS.read_text())["bert"]["files"])
