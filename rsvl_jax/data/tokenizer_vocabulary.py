"""Other people's tokenizers: CLIP's, BERT's, RoBERTa's, and any `tokenizer.json`.

They run in the library `tokenizers`; their vocabulary comes from files, see `tokenizer_files`.
"""

import functools
import html
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from rsvl_jax.errors import UserError

# What special tokens are called, by those who say nothing else; best known first.
_PADS = ("[PAD]", "<pad>")
_MASKS = ("[MASK]", "<mask>")
_SPECIAL = ("[CLS]", "[SEP]", "<s>", "</s>", "<bos>", "<eos>", *_PADS, *_MASKS)
_CLIP_SPECIAL = (
    ("<|startoftext|>", "<|endoftext|>"),  # OpenAI's and transformers'
    ("<start_of_text>", "<end_of_text>"),  # open_clip's
)
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
CLEAN = ("", "clip")
_KEPT = 2**16  # texts whose ids are kept


class VocabularyTokenizer:
    """Text to ids and back, with the methods of `SentencePieceTokenizer`; pickles whole.

    Attributes:
      model: bytes from which `of_model` makes it again, for checkpoints.
      pad_id: after the text. cls_id, sep_id: first and last of every text, -1 for none.
      first_id: of those that a random token is drawn from.
    """

    def __init__(self, content: str, clean: str = ""):
        """content: of a tokenizer.json; clean: what texts go through first, "clip" as CLIP's.

        Raises UserError where it is not such content.
        """
        if clean not in CLEAN:
            raise UserError(f"unknown cleaning {clean!r}: choose one of {CLEAN}")
        self.clean, self._content = clean, content
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        # CLIP pads with zeros, which is the id of "!".
        self.pad_id = _first(vocabulary, _PADS) if not clean else 0
        self._mask_id = _first(vocabulary, _MASKS)
        self.first_id = self._mask_id + 1 if 0 <= self._mask_id < self.vocab_size - 1 else 0
        if self.pad_id < 0:
            self.pad_id = int((json.loads(content).get("padding") or {}).get("pad_id", 0))
        ends: list[int] = self._tokenizer.encode("", add_special_tokens=True).ids
        self.cls_id, self.sep_id = (ends[0], ends[-1]) if len(ends) == 2 else (-1, -1)

    @property
    def masks(self) -> bool:
        """Whether there is a mask token."""
        return self._mask_id >= 0

    def name(self, index: int) -> str:
        """The token of an id."""
        return self._tokenizer.id_to_token(index) or ""

    @property
    def mask_id(self) -> int:
        """Id of the mask token. Raises UserError for a vocabulary without one, such as CLIP's."""
        if not self.masks:
            raise UserError("this tokenizer has no mask token: train without masked text")
        return self._mask_id

    @property
    def model(self) -> bytes:
        """See above."""
        return json.dumps({"clean": self.clean, "tokenizer": self._content}).encode()

    @classmethod
    def of_model(cls, model: bytes) -> "VocabularyTokenizer":
        """Inverse of `model`. Raises UserError for other bytes."""
        try:
            found = json.loads(model)
            return cls(found["tokenizer"], found["clean"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"these bytes are no tokenizer: {error}") from error

    def __getstate__(self) -> dict:
        cached = ("_tokenizer", "_encode", "_word_tables", "_special")
        return {name: value for name, value in vars(self).items() if name not in cached}

    @functools.cached_property
    def _tokenizer(self) -> tokenizers.Tokenizer:
        try:
            made = tokenizers.Tokenizer.from_str(self._content)
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"not the content of a tokenizer.json: {error}") from error
        made.no_padding()
        made.no_truncation()
        return made

    def encode(self, text: str, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Special tokens and pieces, cut to `length`, then padding: (ids int32, mask bool) [T]."""
        pieces = self._encode(text, length)
        ids = np.full(length, self.pad_id, np.int32)
        ids[: len(pieces)] = pieces
        return ids, np.arange(length) < len(pieces)

    @functools.cached_property
    def _encode(self):
        @functools.lru_cache(maxsize=_KEPT)
        def encode(text: str, length: int) -> np.ndarray:
            if self.clean:
                text = clip_clean(text)
            found = self._tokenizer.encode(text, add_special_tokens=False)
            extra = self._tokenizer.num_special_tokens_to_add(False)
            # Cut here: a tokenizer that cuts by itself keeps that as its state.
            found.truncate(max(length - extra, 0))
            return np.array(self._tokenizer.post_process(found).ids[:length], np.int32)

        return encode

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, without special tokens (a masked token reads as its name)."""
        words: list[str] = []
        run: list[int] = []
        for token in (int(i) for i in ids):
            if self.clean and token == self.sep_id:
                break  # padding is the id of a word
            if token == self._mask_id:
                words += [self._tokenizer.decode(run), self.name(token)]
                run = []
            elif token not in self._special:
                run.append(token)
        words.append(self._tokenizer.decode(run))
        return " ".join(word.strip() for word in words if word.strip())

    @functools.cached_property
    def _special(self) -> frozenset[int]:
        added = self._tokenizer.get_added_tokens_decoder()
        special = {index for index, token in added.items() if token.special}
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        return frozenset(special | {vocabulary[name] for name in _SPECIAL if name in vocabulary})

    def word_ids(self, ids: np.ndarray) -> np.ndarray:
        """Number of the word each token belongs to, int32 [T]; -1 for special tokens.

        Words are what blanks and punctuation separate, by the marks of the vocabulary's pieces.
        """
        begins_at, ends_at = self._word_tables
        begins = begins_at[ids]
        begins[1:] |= ends_at[ids[:-1]]
        special = np.isin(ids, list(self._special))
        if self.clean:  # as in `decode`
            special |= np.cumsum(ids == self.sep_id) > 0
        return np.where(special, np.int32(-1), np.cumsum(begins, dtype=np.int32))

    @functools.cached_property
    def _word_tables(self) -> tuple[np.ndarray, np.ndarray]:
        """For each id whether it begins a word, and whether the next token does: bool [V] each."""
        begins, ends = np.zeros((2, self.vocab_size), bool)
        inner = json.loads(self._content)["model"]
        suffix, continuing = inner.get("end_of_word_suffix"), inner.get("continuing_subword_prefix")
        for piece, index in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if suffix:
                ends[index] = piece.endswith(suffix)
            elif continuing:
                begins[index] = not piece.startswith(continuing)
            else:
                marked = piece.startswith(("\u0120", "\u2581"))
                ends[index] = _is_punctuation(piece[1:] if marked else piece)
                begins[index] = marked or ends[index]
        return begins, ends


def _first(vocabulary: Mapping[str, int], names: Sequence[str]) -> int:
    return next((vocabulary[name] for name in names if name in vocabulary), -1)


def _is_punctuation(text: str) -> bool:
    return bool(text) and all(unicodedata.category(c)[0] in "PS" for c in text)


def clip_clean(text: str) -> str:
    """As open_clip's `tokenizer.py`: broken Unicode and HTML mended, blanks joined, lower case.

    Raises UserError where ftfy is not installed, without which some ids would be others.
    """
    try:
        import ftfy
    except ImportError as error:
        raise UserError("CLIP's tokenizer mends texts with ftfy: pip install ftfy") from error
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def byte_letters() -> list[str]:
    """The letters that byte-level BPE writes bytes with, in the order of CLIP's and GPT-2's ids."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = 256 - len(plain)
    return [*map(chr, plain), *(chr(256 + index) for index in range(others))]


def clip(vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> VocabularyTokenizer:
    """CLIP's byte-level BPE. Raises UserError for a vocabulary that is not CLIP's."""
    start, end = _of(vocabulary, *_CLIP_SPECIAL)
    made = _pairs_into_pieces(vocabulary, merges, end_of_word_suffix="</w>", unk_token=end)
    words = pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True)
    blanks = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([words, blanks])
    made.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("</w>", " ")])
    made.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in (start, end)]
    )
    made.post_processor = _between(vocabulary, start, end)
    return VocabularyTokenizer(made.to_str(), "clip")


def bert(vocabulary: Mapping[str, int], *, lowercase: bool = True) -> VocabularyTokenizer:
    """BERT's WordPiece. lowercase: and without accents. UserError where it is not BERT's."""
    start, end = _of(vocabulary, ("[CLS]", "[SEP]"))
    _of(vocabulary, ("[UNK]", "[PAD]"))
    made = tokenizers.Tokenizer(models.WordPiece(dict(vocabulary), unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    names = [name for name in ("[PAD]", "[UNK]", start, end, "[MASK]") if name in vocabulary]
    made.add_special_tokens(names)
    made.post_processor = _between(vocabulary, start, end)
    return VocabularyTokenizer(made.to_str())


def roberta(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]]
) -> VocabularyTokenizer:
    """RoBERTa's byte-level BPE, GPT-2's with other ends. UserError where it is not RoBERTa's."""
    start, end = _of(vocabulary, ("<s>", "</s>"))
    _of(vocabulary, ("<unk>", "<pad>"))
    made = _pairs_into_pieces(vocabulary, merges)
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    names = [name for name in (start, "<pad>", end, "<unk>") if name in vocabulary]
    made.add_special_tokens(names)
    if "<mask>" in vocabulary:
        made.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    made.post_processor = _between(vocabulary, start, end)
    return VocabularyTokenizer(made.to_str())


def _pairs_into_pieces(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], **options: str
) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer(models.BPE(dict(vocabulary), list(merges), **options))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"vocabulary and merges do not belong together: {error}") from error


def _of(vocabulary: Mapping[str, int], *pairs: tuple[str, str]) -> tuple[str, str]:
    """The first pair of names that are both in the vocabulary."""
    for pair in pairs:
        if all(name in vocabulary for name in pair):
            return pair
    raise UserError(f"a vocabulary of {len(vocabulary)} pieces without {' and '.join(pairs[0])}")


def _between(vocabulary: Mapping[str, int], start: str, end: str) -> processors.TemplateProcessing:
    ends = [(name, vocabulary[name]) for name in (start, end)]
    return processors.TemplateProcessing(single=[start, "$A", end], special_tokens=ends)
