"""The samples of paired, image-only and text-only streams."""

import numpy as np
import pytest
from tiny_records import TinySource, captions

from rsvl_jax.data.masking import max_masked_tokens
from rsvl_jax.data.pairs import ImagePart, LocationPart, SampleTransform, TextPart, caption_id
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, train_tokenizer
from rsvl_jax.data.transforms import Augmentation, CorruptImage
from rsvl_jax.errors import UserError

IMAGE = ImagePart(Augmentation(32), patch=8, mask_count=6)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("pairs") / "tokenizer.model")
    train_tokenizer(captions(), path, 300)
    return SentencePieceTokenizer(path)


@pytest.fixture(scope="module")
def source():
    return TinySource()


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_pair_has_the_keys_shapes_and_types_of_the_contract(tokenizer, source):
    k = max_masked_tokens(24)
    text = TextPart(tokenizer, 24, k, swap_probability=0.1, others=source)
    sample = SampleTransform(IMAGE, text, LocationPart(0.1))(source[0], _rng())
    described = {key: (np.shape(v), np.asarray(v).dtype.name) for key, v in sample.items()}
    assert described == {
        "image": ((32, 32, 3), "uint8"),
        "mim_mask": ((16,), "bool"),
        "mim_positions": ((6,), "int32"),
        "mim_weights": ((6,), "float32"),
        "text": ((24,), "int32"),
        "text_mask": ((24,), "bool"),
        "text_id": ((), "int32"),
        "text_masked": ((24,), "int32"),
        "mlm_positions": ((k,), "int32"),
        "mlm_labels": ((k,), "int32"),
        "mlm_weights": ((k,), "float32"),
        "itm_label": ((), "int32"),
        "lon": ((), "float32"),
        "lat": ((), "float32"),
    }
    assert np.flatnonzero(sample["mim_mask"]).tolist() == sample["mim_positions"].tolist()


def test_only_what_is_asked_for(tokenizer, source):
    clip = SampleTransform(ImagePart(Augmentation(32), 8), TextPart(tokenizer, 24))
    assert set(clip(source[0], _rng())) == {"image", "text", "text_mask", "text_id"}
    assert set(SampleTransform(IMAGE)(source[0], _rng())) == {
        "image",
        "mim_mask",
        "mim_positions",
        "mim_weights",
    }
    label = SampleTransform(location=LocationPart(), copied=("label",))(source[3], _rng())
    assert set(label) == {"lon", "lat", "label"} and label["label"] == 3
    assert label["label"].dtype == np.int32


def test_visible_and_masked_patches_are_all_patches(source):
    part = ImagePart(Augmentation(32), 8, mask_count=12, masking="random", visible=True)
    sample, _ = part(source[0], _rng())
    both = np.concatenate([sample["mae_keep"], sample["mim_positions"]])
    assert sorted(both) == list(range(16)) and len(sample["mae_keep"]) == 4


def test_captions_are_drawn_evenly_and_named_by_their_hash(tokenizer, source):
    part, rng = TextPart(tokenizer, 24), _rng()
    ids = [part(source[1], rng)["text_id"] for _ in range(900)]
    own = [caption_id(text) for text in source[1]["captions"]]
    assert set(ids) == set(own)
    assert min(ids.count(i) for i in own) > 250
    assert caption_id("A forest.") == np.int32(-1987414458)  # the same in every process and run


def test_swapped_texts_are_of_other_records_and_masked_after_the_swap(tokenizer, source):
    part = TextPart(tokenizer, 32, 8, swap_probability=0.3, others=source)
    own = {caption_id(text) for text in source[2]["captions"]}
    everyone = {caption_id(t) for i in range(len(source)) for t in source[i]["captions"]}
    rng, swapped = _rng(), 0
    for _ in range(1000):
        sample = part(source[2], rng)
        assert (sample["text_id"] in own) == bool(sample["itm_label"])
        assert sample["text_id"] in everyone
        hidden = sample["mlm_positions"][sample["mlm_weights"] == 1]
        labels = sample["mlm_labels"][: len(hidden)]
        assert (sample["text"][hidden] == labels).all()
        swapped += sample["itm_label"] == 0
    assert abs(swapped / 1000 - 0.3) < 0.05


def test_where_all_captions_are_the_same_nothing_is_swapped(tokenizer):
    class Same(TinySource):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"captions": ["The sea."]}

    part = TextPart(tokenizer, 16, swap_probability=1.0, others=Same())
    assert part(Same()[0], _rng())["itm_label"] == 1


def test_evaluation_neither_augments_nor_swaps_nor_jitters(tokenizer, source):
    image = ImagePart(Augmentation(32, (0.3, 0.5), flip_horizontal=True, rotate=True), 8)
    text = TextPart(tokenizer, 24, swap_probability=1.0, others=source)
    plain = SampleTransform(image, text, LocationPart(5.0)).for_evaluation()
    first, second = plain(source[4], _rng(1)), plain(source[4], _rng(2))
    assert (first["image"] == second["image"]).all()
    assert first["itm_label"] == 1
    assert first["lon"] == np.float32(source[4]["lon"])
    assert first["lat"] == np.float32(source[4]["lat"])


def test_bad_records_are_named(source, tokenizer):
    with pytest.raises(UserError, match="record 'tile-3' has no caption"):
        TextPart(tokenizer, 8)(source[3] | {"captions": []}, _rng())
    corrupt = TinySource(corrupt=(5,))[5]
    with pytest.raises(CorruptImage, match="record 'tile-5'"):
        IMAGE(corrupt, _rng())
    with pytest.raises(UserError, match="record 'tile-6'.*lat=95"):
        LocationPart()(source[6] | {"lat": 95.0, "lon": 10.0}, _rng())


def test_records_without_a_place_are_marked_where_that_is_allowed(source):
    nowhere = source[6] | {"lon": float("nan"), "lat": float("nan")}
    part = LocationPart(jitter=1.0, optional=True)
    sample = part(nowhere, _rng())
    assert (sample["lon"], sample["lat"], sample["location_mask"]) == (0, 0, False)
    there = part(source[6], _rng())
    assert (
        there["location_mask"]
        and there["lon"] == LocationPart(jitter=1.0)(source[6], _rng())["lon"]
    )
    assert {value.dtype for value in sample.values()} == {np.dtype("f4"), np.dtype(bool)}
    assert "location_mask" not in LocationPart()(source[6], _rng())
    with pytest.raises(UserError, match="record 'tile-6'.*lat=nan"):
        LocationPart()(nowhere, _rng())


def test_impossible_options_are_refused(tokenizer):
    with pytest.raises(UserError, match="not divisible by patch size 7"):
        ImagePart(Augmentation(32), patch=7)
    with pytest.raises(UserError, match="masking 'blocks'"):
        ImagePart(Augmentation(32), patch=8, masking="blocks")
    with pytest.raises(UserError, match="text length 2"):
        TextPart(tokenizer, 2)
    with pytest.raises(UserError, match="others"):
        TextPart(tokenizer, 8, swap_probability=0.5)
