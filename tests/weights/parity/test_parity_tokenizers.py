"""CLIP's whole vocabulary beside open_clip's tokenizer."""

import unicodedata

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("ftfy")
pytest.importorskip("regex")

from make_tokenizers import CORPUS, open_clip_tokenizer  # noqa: E402

from rsvl_jax.data import tokenizer_files as files  # noqa: E402
from rsvl_jax.errors import UserError  # noqa: E402

pytestmark = pytest.mark.parity

# Letters of most scripts, alone and next to one of ours; those of the newest versions of Unicode
# are letters to one library and not yet to the other.
CODES = (*range(0x21, 0x3000, 7), *range(0x4E00, 0x9FFF, 97))
LETTERS = [chr(code) for code in CODES if unicodedata.category(chr(code)) != "Cn"]
SENTENCES = [f"a{letter} b{letter}c {letter * 3}" for letter in LETTERS]


def test_clip_ids_are_open_clips():
    try:
        ours = files.open_tokenizer(kind="clip")
    except UserError as error:
        pytest.skip(str(error))
    original = open_clip_tokenizer()[0].SimpleTokenizer()
    assert (ours.vocab_size, ours.cls_id, ours.sep_id) == (49_408, 49_406, 49_407)
    texts = CORPUS + SENTENCES
    expected = original(texts, 77).numpy()
    actual = np.stack([ours.encode(text, 77)[0] for text in texts])
    wrong = [text for text, a, e in zip(texts, actual, expected, strict=True) if (a != e).any()]
    assert wrong == []
