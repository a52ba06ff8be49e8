import json

import pytest
import tiny_runs

from rsvl_jax.data.tokenizer_vocabulary import byte_letters
from rsvl_jax.errors import UserError
from rsvl_jax.inference import texts


def files(folder):
    return {path.name: str(path) for path in folder.iterdir()}


def test_our_own_model_goes_before_the_kind_of_the_family(tmp_path):
    words = tiny_runs.tokenizer(tmp_path)
    for kind in ("clip", "wordpiece", "sentencepiece"):
        found = texts.of_files({"kind": kind}, files(tmp_path))()
        assert found.encode("a desert", 9)[0].tolist() == words.encode("a desert", 9)[0].tolist()


def test_clip_reads_its_own_vocabulary(tmp_path):
    letters = byte_letters()
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    (tmp_path / "vocab.json").write_text(json.dumps({p: n for n, p in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    ids, mask = texts.of_files({"kind": "clip"}, files(tmp_path))().encode("AB", 6)
    assert [pieces[i] for i in ids[mask]] == ["<|startoftext|>", "a", "b</w>", "<|endoftext|>"]


def test_what_a_checkpoint_carries(tmp_path):
    words = tiny_runs.tokenizer(tmp_path)
    assert texts.of_checkpoint(words.model)().encode("ice", 5)[0].tolist()[0] == 2


def test_weights_without_a_tokenizer_say_so_when_a_text_comes():
    with pytest.raises(UserError, match="files of its tokenizer are not beside these weights"):
        texts.of_files({"kind": "wordpiece"}, {})()
    with pytest.raises(UserError, match="the checkpoint carries no tokenizer"):
        texts.of_checkpoint(b"")()
