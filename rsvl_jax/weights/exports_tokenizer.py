"""Our SentencePiece tokenizer as the files that `transformers` and `tokenizers` read."""

import base64
import json
from typing import Any

from sentencepiece import sentencepiece_model_pb2

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_SPACE = "\u2581"


def is_sentencepiece(model: bytes) -> bool:
    """Whether the bytes are a SentencePiece model: not none, nor another tokenizer's JSON."""
    return model[:1] not in (b"", b"{")


def files(model: bytes, length: int) -> dict[str, bytes]:
    """tokenizer.json, tokenizer_config.json and the SentencePiece model itself, by name.

    length: tokens of the longest text that the model reads.
    """
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": length,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **SPECIAL,
    }
    return {
        "tokenizer.json": _text(description(model)),
        "tokenizer_config.json": _text(config),
        "tokenizer.model": model,
    }


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
