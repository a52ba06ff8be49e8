"""A run's tokenizer as the files that `transformers` and `tokenizers` read."""

import base64
import json
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from rsvl_jax.data.tokenizer_vocabulary import VocabularyTokenizer

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_SPACE = "\u2581"


def kind(model: bytes) -> str:
    """Of a tokenizer's bytes, as `tokenizer_files.KINDS` has it."""
    if model[:1] != b"{":
        return "sentencepiece"
    return "clip" if json.loads(model)["clean"] else "json"


def files(model: bytes, length: int) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json and a SentencePiece model itself, by name.

    model: of a tokenizer, see `tokenizer_files.of_model`. length: tokens of the longest text that
    the model reads.
    """
    if kind(model) != "sentencepiece":
        content = json.loads(model)["tokenizer"]
        return {
            "tokenizer.json": content.encode(),
            "tokenizer_config.json": _text(_config(length) | _special(model)),
        }
    return {
        "tokenizer.json": _text(description(model)),
        "tokenizer_config.json": _text(_config(length) | SPECIAL),
        "tokenizer.model": model,
    }


def _config(length: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": length,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def _special(model: bytes) -> dict[str, str]:
    """What the special tokens of somebody's vocabulary are called."""
    tokenizer = VocabularyTokenizer.of_model(model)
    ids = {"pad_token": tokenizer.pad_id}
    ids |= {"cls_token": tokenizer.cls_id, "sep_token": tokenizer.sep_id}
    names = {role: tokenizer.name(index) for role, index in ids.items() if index >= 0}
    if tokenizer.masks:
        names["mask_token"] = tokenizer.name(tokenizer.mask_id)
    return names


def _text(content: dict[str, Any]) -> bytes:
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def description(model: bytes) -> dict[str, Any]:
    """The content of tokenizer.json: the same pieces of a text, between [CLS] and [SEP].

    What SentencePiece does step by step: its table of characters (NFKC and lower case), single
    blanks, byte pairs in the order of the pieces, neighbours that it does not know as one.
    """
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(model)
    pieces = [piece.piece for piece in proto.pieces]
    special = list(SPECIAL.values())
    table = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(pieces.index(token), token) for token in special],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Precompiled", "precompiled_charsmap": table},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
                {"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""},
            ],
        },
        "pre_tokenizer": _metaspace(),
        "post_processor": _ends(pieces),
        "decoder": _metaspace(),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": SPECIAL["unk_token"],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: number for number, piece in enumerate(pieces)},
            "merges": merges(pieces),
        },
    }


def merges(pieces: list[str]) -> list[list[str]]:
    """Pairs of pieces that make a piece, the first learned first."""
    known = {piece: number for number, piece in enumerate(pieces)}
    found = []
    for number, piece in enumerate(pieces):
        if piece in SPECIAL.values():
            continue
        cuts = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        pairs = [(a, b) for a, b in cuts if a in known and b in known]
        found += [(number, known[a], known[b], [a, b]) for a, b in pairs]
    return [pair for *_, pair in sorted(found)]


def _added(number: int, token: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": token, **flags, "special": True}


def _metaspace() -> dict[str, Any]:
    # Not split at blanks: what is unknown on both sides of one that is unknown, too, is one token.
    return {
        "type": "Metaspace",
        "replacement": _SPACE,
        "prepend_scheme": "always",
        "split": False,
    }


def _ends(pieces: list[str]) -> dict[str, Any]:
    ends = (SPECIAL["cls_token"], SPECIAL["sep_token"])
    first, last = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ends)
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [first, one, last],
        "pair": [first, one, last, two, last],
        "special_tokens": {
            token: {"id": token, "ids": [pieces.index(token)], "tokens": [token]} for token in ends
        },
    }
