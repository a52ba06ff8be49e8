import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("ftfy")

from rsvl_jax.data import tokenizer_files as files  # noqa: E402
from rsvl_jax.data.masking import mask_tokens  # noqa: E402
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, train_tokenizer  # noqa: E402
from rsvl_jax.errors import UserError  # noqa: E402

CASES = json.loads((Path(__file__).parent / "cases" / "tokenizers.json").read_text())
KINDS = ("clip", "bert", "roberta")
LENGTH = CASES["length"]
TEXT = "a satellite image of farmland near the river, it's 50%"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for kind in KINDS:
        found[kind] = tmp_path_factory.mktemp(kind)
        for name, content in CASES[kind]["files"].items():
            (found[kind] / name).write_text(content)
    return found


@pytest.fixture(scope="module")
def opened(folders):
    return {kind: files.open_tokenizer(str(folder)) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_originals(opened, kind):
    for text, expected in zip(CASES["corpus"], CASES[kind]["ids"], strict=True):
        if kind == "clip" and "<|endoftext|>" in text:
            continue  # open_clip gives its special tokens other names, see below
        ids, mask = opened[kind].encode(text, LENGTH)
        assert ids.tolist() == expected, text
        assert ids.dtype == np.int32 and mask.dtype == bool
        assert (ids[~mask] == opened[kind].pad_id).all()
        assert mask.sum() >= 2 and not np.diff(mask.astype(int)).max(initial=-1) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_again_from_its_bytes(opened, kind):
    ids = opened[kind].encode(TEXT, 30)[0]
    copies = (pickle.loads(pickle.dumps(opened[kind])), files.of_model(opened[kind].model))
    for copy in copies:
        np.testing.assert_array_equal(copy.encode(TEXT, 30)[0], ids)
        assert copy.vocab_size == opened[kind].vocab_size > ids.max()


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_may_be_named(folders, opened, kind):
    named = files.open_tokenizer(str(folders[kind]), kind)
    np.testing.assert_array_equal(named.encode(TEXT, 9)[0], opened[kind].encode(TEXT, 9)[0])
    other = "bert" if kind != "bert" else "roberta"
    with pytest.raises(UserError, match="bert|pieces without"):
        files.open_tokenizer(str(folders[kind]), other)


def test_words_are_what_blanks_and_punctuation_separate(opened):
    for kind in ("bert", "roberta"):
        tokenizer = opened[kind]
        ids, mask = tokenizer.encode("farmland near, river", 24)
        words = tokenizer.word_ids(ids)
        assert (words[~mask] == -1).all() and words[0] == words[mask.sum() - 1] == -1
        inner = words[1 : mask.sum() - 1]
        assert len(set(inner)) == 4 and (np.diff(inner) >= 0).all()
    clip = opened["clip"]
    ids, mask = clip.encode("farmland near, river!", 30)
    words = clip.word_ids(ids)
    assert len(set(words[words >= 0])) == 5
    assert (words[~mask] == -1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_decoded_text(opened, kind):
    ids = opened[kind].encode("a satellite image of the river", 40)[0]
    assert opened[kind].decode(ids) == "a satellite image of the river"


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_masked_text_in_training(opened, kind):
    tokenizer = opened[kind]
    ids, mask = tokenizer.encode(TEXT, LENGTH)
    masked, positions, labels, weights = mask_tokens(
        np.random.default_rng(0),
        ids,
        mask,
        tokenizer.word_ids(ids),
        tokenizer,
        probability=0.5,
        max_masked=12,
    )
    hidden = positions[weights > 0]
    np.testing.assert_array_equal(labels[weights > 0], ids[hidden])
    assert (masked == tokenizer.mask_id).any()
    assert tokenizer.mask_id in masked[hidden] and masked.max() < tokenizer.vocab_size
    assert "MASK" in tokenizer.decode(masked).upper()


def test_clip_has_no_mask_token(opened):
    with pytest.raises(UserError, match="no mask token"):
        _ = opened["clip"].mask_id


def test_clip_from_its_file_of_merges(folders, opened, tmp_path):
    merges = (folders["clip"] / "merges.txt").read_text()
    path = tmp_path / files.CLIP_MERGES
    path.write_bytes(gzip.compress(merges.encode()))
    for where in (path, tmp_path):
        again = files.open_tokenizer(str(where))
        for text, ids in zip(CASES["corpus"], CASES["clip"]["ids"], strict=True):
            assert again.encode(text, LENGTH)[0].tolist() == ids


@pytest.mark.parametrize("kind", KINDS)
def test_any_tokenizer_json(opened, kind, tmp_path):
    content = json.loads(opened[kind].model)["tokenizer"]
    (tmp_path / "tokenizer.json").write_text(content)
    again = files.open_tokenizer(str(tmp_path), kind)
    np.testing.assert_array_equal(again.encode(TEXT, 12)[0], opened[kind].encode(TEXT, 12)[0])


def test_ours_stays_what_it_was(tmp_path):
    path = str(tmp_path / "tokenizer.model")
    train_tokenizer(["a field by a river", "a town"] * 20, path, 60)
    first = SentencePieceTokenizer(path)
    for again in (files.open_tokenizer(str(tmp_path)), files.of_model(first.model)):
        np.testing.assert_array_equal(again.encode("a river", 9)[0], first.encode("a river", 9)[0])
        assert again.first_id == first.mask_id + 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", "one\ntwo\n", r"2 pieces without \[CLS\] and \[SEP\]"),
        ("tokenizer.json", "{}", "not the content of a tokenizer.json"),
        ("tokenizer.json", "[1", "not the content of a tokenizer.json"),
        ("bpe_simple_vocab_16e6.txt.gz", "plain", "no file of CLIP's merges"),
        ("notes.txt", "hello", "no files of a known tokenizer.*it has notes.txt"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        files.open_tokenizer(str(tmp_path))


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no tokenizer at"):
        files.open_tokenizer(str(tmp_path / "missing"))
    with pytest.raises(UserError, match="unknown kind of tokenizer 'bpe'"):
        files.open_tokenizer(str(tmp_path), "bpe")
    with pytest.raises(UserError, match="needs the folder of its files"):
        files.open_tokenizer(kind="bert")
    for name, content in (("vocab.json", '{"a": "b"}'), ("merges.txt", "a b\n")):
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match="is no vocabulary"):
        files.open_tokenizer(str(tmp_path))
