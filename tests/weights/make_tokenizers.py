"""Makes tests/weights/cases/tokenizers.json again: ids of originals on small vocabularies.

Needs transformers, and open_clip_torch with ftfy and regex.
"""

import gzip
import importlib.util
import json
import tempfile
from pathlib import Path

import tokenizers
import transformers
from tokenizers import models, normalizers, pre_tokenizers, trainers

CASES = Path(__file__).parent / "cases" / "tokenizers.json"
LENGTH = 40
MERGES = 400  # of CLIP's, the first
CORPUS = [
    "",
    "   ",
    "a satellite image of farmland near the river",
    "Façade d'un château à Besançon, été; naïve coöperation, Zürich, Łódź",
    "東京の衛星画像 and 北京, 서울의 위성 사진",
    "\U0001f6f0\ufe0f over \U0001f30d\U0001f33e! \U0001f1eb\U0001f1f7 \U0001f468\u200d\U0001f33e",
    "AT&amp;T &lt;b&gt;bold&lt;/b&gt; &amp;quot;twice&amp;quot; caf&eacute; &#233;",
    "it's we'll THEY'VE don't I'm he'd 12345 3.14 km\u00b2 50%",
    "tabs\tand\nlines\r\nand\u00a0hard\u3000blanks\u200bzero",
    "brokenâ€™s mojibake Ã©tÃ© \ufb01ne \u2460",
    "under_score hy-phen snake_case_name path/to/file.tif a...b??!!",
    "\u03a3\u038a\u03a3\u03a5\u03a6\u039f\u03a3 \u0130stanbul STRASSE \u1e9e",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0928\u092e\u0938\u094d\u0924\u0947",
    "e\u0301 combining and \u00e9 composed",
    "word " * 200,
    "x" * 500,
    "<|endoftext|> [MASK] <mask> [SEP] </s> <start_of_text>",
    "control\x00chars\x07and\x7fdelete",
]


def main():
    found = {"length": LENGTH, "corpus": CORPUS}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in {"clip": clip, "bert": bert, "roberta": roberta}.items():
            path = Path(folder) / name
            path.mkdir()
            encode = make(path)
            files = {
                file.name: file.read_text() for file in sorted(path.iterdir()) if not is_gzip(file)
            }
            found[name] = {"files": files, "ids": [encode(text) for text in CORPUS]}
    text = json.dumps(found, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    CASES.write_text(text + "\n")
    print(f"{CASES.name}: {CASES.stat().st_size} bytes")


def is_gzip(file):
    return file.suffix == ".gz"


def open_clip_tokenizer():
    """open_clip's own file, without the rest of its package, which wants torchvision."""
    folder = importlib.util.find_spec("open_clip").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("open_clip_tokenizer", f"{folder}/tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, Path(folder) / "bpe_simple_vocab_16e6.txt.gz"


def clip(path):
    """open_clip's tokenizer on CLIP's first merges."""
    module, full = open_clip_tokenizer()
    lines = gzip.decompress(full.read_bytes()).decode("utf-8").split("\n")[: MERGES + 1]
    (path / "merges.txt").write_text("\n".join(lines) + "\n")
    small = path / "bpe.txt.gz"
    small.write_bytes(gzip.compress("\n".join(lines).encode()))
    original = module.SimpleTokenizer(str(small))
    pieces = {
        piece.replace("<start_of_text>", "<|startoftext|>").replace(
            "<end_of_text>", "<|endoftext|>"
        ): index
        for piece, index in original.encoder.items()
    }
    (path / "vocab.json").write_text(json.dumps(pieces))
    return lambda text: original([text], LENGTH)[0].tolist()


def bert(path):
    """transformers' BertTokenizer on a WordPiece vocabulary of the corpus."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        CORPUS[:9], trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
    )
    pieces = sorted(made.get_vocab().items(), key=lambda item: item[1])
    (path / "vocab.txt").write_text("\n".join(piece for piece, _ in pieces) + "\n")
    return _padded(transformers.BertTokenizer.from_pretrained(path))


def roberta(path):
    """transformers' RobertaTokenizer on byte-level BPE of the corpus."""
    made = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(CORPUS[:9], vocab_size=400, special_tokens=special)
    made.save_model(str(path))
    mask = tokenizers.AddedToken("<mask>", lstrip=True, special=True)  # as published
    return _padded(transformers.RobertaTokenizer.from_pretrained(path, mask_token=mask))


def _padded(original):
    options = {"padding": "max_length", "truncation": True, "max_length": LENGTH}
    return lambda text: original(text, **options)["input_ids"]


if __name__ == "__main__":
    main()
