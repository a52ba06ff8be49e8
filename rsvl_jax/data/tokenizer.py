"""What a tokenizer is, and ours: SentencePiece, trained on captions, stored with the data set."""

import functools
import io
import unicodedata
from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
import sentencepiece
from etils import epath

from rsvl_jax.errors import UserError

PAD, UNK, CLS, SEP, MASK = range(5)
_WORD_START = "\u2581"


class Tokenizer(Protocol):
    """What training and inference ask of a tokenizer."""

    @property
    def model(self) -> bytes:
        """Bytes that make it again, see `tokenizer_files.of_model`."""

    @property
    def pad_id(self) -> int:
        """What stands after a text."""

    @property
    def mask_id(self) -> int:
        """Of the mask token. Raises UserError where there is none."""

    @property
    def first_id(self) -> int:
        """Of the tokens that a random one is drawn from, up to vocab_size."""

    @property
    def vocab_size(self) -> int:
        """Ids are below it."""

    def encode(self, text: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32 [length], mask bool [length], True: a token)."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""

    def word_ids(self, ids: np.ndarray) -> np.ndarray:
        """Number of each token's word, int32 [T]; -1 for special tokens."""


class SentencePieceTokenizer:
    """Text to ids and back; holds the serialized model, so it pickles to worker processes."""

    pad_id, unk_id, cls_id, sep_id, mask_id = PAD, UNK, CLS, SEP, MASK
    first_id = MASK + 1  # of those that a random token is drawn from

    def __init__(self, path: str):
        """Reads `path` (local or gs://), a model of `train_tokenizer`; UserError if it is not."""
        try:
            self.model = epath.Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"cannot read the tokenizer {path!r} ({error}); rebuild it") from error
        self._check(path)

    @classmethod
    def of_model(cls, model: bytes) -> "SentencePieceTokenizer":
        """From its `model`, as checkpoints keep it. UserError for other bytes."""
        made = cls.__new__(cls)
        made.model = model
        made._check("the model of a checkpoint")
        return made

    def _check(self, path: str) -> None:
        try:
            pieces = [self._processor.id_to_piece(i) for i in range(5)]
        except (RuntimeError, IndexError) as error:
            raise UserError(f"{path!r} is not a SentencePiece model; rebuild it") from error
        if pieces != ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]:
            raise UserError(f"{path!r} starts with {pieces}, not [PAD] [UNK] [CLS] [SEP] [MASK]")

    def __getstate__(self) -> dict:
        return {"model": self.model}

    @functools.cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        return sentencepiece.SentencePieceProcessor(model_proto=self.model)

    @property
    def vocab_size(self) -> int:
        return self._processor.vocab_size()

    def encode(self, text: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """`[CLS] pieces [SEP] [PAD]...`, cut to `length`: (ids int32 [T], mask bool [T])."""
        pieces = self._pieces(text)[: length - 2]
        ids = np.full(length, PAD, np.int32)
        end = len(pieces) + 1
        ids[0], ids[1:end], ids[end] = CLS, pieces, SEP
        return ids, np.arange(length) <= end

    @functools.cached_property
    def _pieces(self) -> Callable[[str], np.ndarray]:
        """Pieces of a text int32 [any]; captions come back every epoch, so the last are kept."""

        @functools.lru_cache(maxsize=2**16)
        def pieces(text: str) -> np.ndarray:
            return np.array(self._processor.encode(text), np.int32)

        return pieces

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, without special tokens (a masked token reads as [MASK])."""
        words: list[str] = []
        run: list[int] = []
        for token in (int(i) for i in ids):
            if token == MASK:
                words += [self._processor.decode(run), "[MASK]"]
                run = []
            elif token not in (PAD, CLS, SEP):
                run.append(token)
        words.append(self._processor.decode(run))
        return " ".join(word for word in words if word)

    def word_ids(self, ids: np.ndarray) -> np.ndarray:
        """Number of the word each token belongs to, int32 [T]; -1 for special tokens.

        As BERT counts words: blanks separate them, and each punctuation mark is its own word.
        """
        starts, punctuation = self._word_tables
        begins = starts[ids]
        begins[1:] |= punctuation[ids[:-1]]
        words = np.cumsum(begins, dtype=np.int32)
        return np.where((ids <= MASK) & (ids != UNK), np.int32(-1), words)

    @functools.cached_property
    def _word_tables(self) -> tuple[np.ndarray, np.ndarray]:
        pieces = [self._processor.id_to_piece(i) for i in range(self.vocab_size)]
        punctuation = np.array([_is_punctuation(piece) for piece in pieces])
        starts = np.array([piece.startswith(_WORD_START) for piece in pieces])
        return starts | punctuation, punctuation


def _is_punctuation(piece: str) -> bool:
    text = piece.removeprefix(_WORD_START)
    return bool(text) and all(unicodedata.category(c)[0] in "PS" for c in text)


def train_tokenizer(sentences: Iterable[str], path: str, vocab_size: int) -> None:
    """Trains a lower-casing byte-pair model on `sentences` and writes it to `path`.

    A corpus too poor for `vocab_size` pieces gives a smaller vocabulary. Byte pairs rather than
    the unigram model, which learns no piece that occurs in a single distinct word, as the
    frequent words of captions from templates do. Deterministic.
    """
    corpus = [s for s in sentences if s.strip()]
    if not corpus:
        raise UserError("no sentence to train the tokenizer on; give at least one caption")
    model = io.BytesIO()
    try:
        _train(corpus, model, vocab_size)
    except RuntimeError as error:
        reason = str(error).rsplit("] ", 1)[-1]
        raise UserError(f"cannot train a tokenizer of {vocab_size} pieces: {reason}") from error
    epath.Path(path).write_bytes(model.getvalue())


def _train(corpus: list[str], model: io.BytesIO, vocab_size: int) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc_cf",
        minloglevel=2,
        pad_id=PAD,
        unk_id=UNK,
        bos_id=CLS,
        eos_id=SEP,
        pad_piece="[PAD]",
        unk_piece="[UNK]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        control_symbols=["[MASK]"],
    )
