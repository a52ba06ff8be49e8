"""The tokenizer of a model, as its description and its files say."""

import os
import tempfile
from typing import Protocol

import numpy as np

from rsvl_jax.data.tokenizer import SentencePieceTokenizer

SENTENCEPIECE = "tokenizer.model"


class Tokenizer(Protocol):
    """Texts to ids."""

    def encode(self, text: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 [length], mask bool [length], True: a token)."""


def of_bytes(model: bytes) -> SentencePieceTokenizer:
    """A SentencePiece model that a checkpoint carries."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, SENTENCEPIECE)
        with open(path, "wb") as file:
            file.write(model)
        return SentencePieceTokenizer(path)
