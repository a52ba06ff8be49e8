"""The SentencePiece tokenizer."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny_records import captions

from rsvl_jax.data.tokenizer import SentencePieceTokenizer, train_tokenizer
from rsvl_jax.errors import UserError


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("tokenizer") / "tokenizer.model")
    train_tokenizer(captions(), path, 300)
    return path


@pytest.fixture(scope="module")
def tokenizer(path):
    return SentencePieceTokenizer(path)


def test_training_is_deterministic(path, tmp_path):
    again = tmp_path / "again.model"
    train_tokenizer(captions(), str(again), 300)
    assert again.read_bytes() == Path(path).read_bytes()


def test_encode_pads_and_cuts(tokenizer):
    ids, mask = tokenizer.encode("forest near Lima", 8)
    assert ids.dtype == np.int32 and mask.dtype == bool
    assert ids[0] == tokenizer.cls_id and ids[mask][-1] == tokenizer.sep_id
    assert (ids[~mask] == tokenizer.pad_id).all() and mask.sum() >= 5
    short, full = tokenizer.encode(" ".join(captions()), 8)
    assert full.all() and short[-1] == tokenizer.sep_id


def test_decode_is_the_lower_cased_text(tokenizer):
    ids, _ = tokenizer.encode("Snow-covered Mountains near Reykjavík.", 40)
    assert tokenizer.decode(ids) == "snow-covered mountains near reykjavík."
    ids[1] = tokenizer.mask_id
    assert tokenizer.decode(ids).startswith("[MASK]")


def test_a_character_never_seen_is_unknown(tokenizer):
    ids, _ = tokenizer.encode("漢", 8)
    assert tokenizer.unk_id in ids


def test_frequent_words_are_one_piece(tokenizer):
    """What the unigram model gets wrong on captions from templates."""
    ids, mask = tokenizer.encode("satellite", 8)
    assert mask.sum() == 3


def test_word_ids_group_pieces_as_bert_does(tokenizer):
    text = "snow-covered mountains near kraków, tolima."
    ids, mask = tokenizer.encode(text, 40)
    words = tokenizer.word_ids(ids)
    assert words[0] == -1 and (words[~mask] == -1).all() and words[mask][-1] == -1
    groups = [tokenizer.decode(ids[words == w]) for w in np.unique(words[words >= 0])]
    expected = ["snow", "-", "covered", "mountains", "near", "kraków", ",", "tolima", "."]
    assert [group.replace(" ", "") for group in groups] == expected


def test_it_travels_to_another_process(tokenizer):
    tokenizer.encode("forest", 8)
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert (
        copy.encode("forest near Lima", 8)[0] == tokenizer.encode("forest near Lima", 8)[0]
    ).all()


def test_a_poor_corpus_gives_a_smaller_vocabulary(tmp_path):
    path = str(tmp_path / "poor.model")
    train_tokenizer(["forest near lima"] * 3, path, 4000)
    assert 5 < SentencePieceTokenizer(path).vocab_size < 100


@pytest.mark.parametrize(("corpus", "size"), [([], 100), ([" "], 100), (captions(), 8)])
def test_impossible_training_says_why(corpus, size, tmp_path):
    with pytest.raises(UserError, match="train"):
        train_tokenizer(corpus, str(tmp_path / "no.model"), size)


def test_foreign_files_are_refused(tmp_path):
    foreign = tmp_path / "foreign.model"
    foreign.write_bytes(b"not a model")
    for path in (foreign, tmp_path / "missing.model"):
        with pytest.raises(UserError, match="rebuild it"):
            SentencePieceTokenizer(str(path))
