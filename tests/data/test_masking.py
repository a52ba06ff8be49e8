"""Patch and token masks: exact counts, and the statistics of their sources."""

import numpy as np
import pytest
from tiny_records import captions

from rsvl_jax.data import masking
from rsvl_jax.data.tokenizer import SentencePieceTokenizer, train_tokenizer
from rsvl_jax.errors import UserError


@pytest.mark.parametrize("draw", [masking.block_mask, masking.random_mask])
@pytest.mark.parametrize(
    ("grid", "count"), [((14, 14), 75), ((8, 8), 24), ((3, 10), 7), ((4, 4), 16), ((2, 2), 0)]
)
def test_the_count_is_exact_on_any_grid(draw, grid, count):
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = draw(rng, grid, count)
        assert mask.shape == (grid[0] * grid[1],) and mask.dtype == bool and mask.sum() == count


def test_blocks_have_the_statistics_of_flava():
    """Before the rest is used up: mean 74.5, least 65, exactly 75 in 67.7 % (5,000 draws)."""
    rng = np.random.default_rng(0)
    counts = np.array(
        [masking._blocks(rng, (14, 14), 75, 16, (0.3, 1 / 0.3)).sum() for _ in range(2000)]
    )
    assert counts.max() == 75 and counts.min() >= 60
    assert abs(counts.mean() - 74.5) < 0.15
    assert abs((counts == 75).mean() - 0.677) < 0.04


def test_blocks_hang_together_and_random_masks_do_not():
    rng = np.random.default_rng(0)

    def neighbours(draw):
        masks = np.stack([draw(rng, (14, 14), 75).reshape(14, 14) for _ in range(300)])
        return (masks[:, 1:] & masks[:, :-1]).sum() / masks[:, :-1].sum()

    assert neighbours(masking.block_mask) > 0.7
    assert neighbours(masking.random_mask) == pytest.approx(75 / 196, abs=0.03)


def test_every_patch_is_masked_equally_often_at_random():
    rng = np.random.default_rng(0)
    share = np.mean([masking.random_mask(rng, (4, 5), 15) for _ in range(3000)], 0)
    assert np.abs(share - 0.75).max() < 0.04


def test_too_many_patches_are_refused():
    with pytest.raises(UserError, match="cannot mask 17 of 16"):
        masking.block_mask(np.random.default_rng(0), (4, 4), 17)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("masking") / "tokenizer.model")
    train_tokenizer(captions(), path, 120)  # few pieces, so that words have several
    return SentencePieceTokenizer(path)


@pytest.fixture(scope="module")
def draws(tokenizer):
    """(ids, mask, words, result of mask_tokens) of many captions."""
    rng = np.random.default_rng(0)
    rows = []
    for text in captions() * 12:
        ids, mask = tokenizer.encode(text, 48)
        words = tokenizer.word_ids(ids)
        rows.append(
            (ids, mask, words, masking.mask_tokens(rng, ids, mask, words, tokenizer, max_masked=16))
        )
    return rows


def test_masked_tokens_fit_together(draws, tokenizer):
    for ids, mask, words, (masked, positions, labels, weights) in draws:
        chosen = positions[weights == 1]
        assert positions.shape == labels.shape == weights.shape == (16,)
        assert (masked.dtype, positions.dtype, labels.dtype) == (np.int32,) * 3
        assert weights.dtype == np.float32 and (np.diff(chosen) > 0).all()
        assert (words[chosen] >= 0).all() and mask[chosen].all()
        assert (labels[weights == 1] == ids[chosen]).all() and not labels[weights == 0].any()
        others = np.delete(np.arange(48), chosen)
        assert (masked[others] == ids[others]).all()
        whole = np.isin(words, words[chosen]) & (words >= 0)
        assert set(np.flatnonzero(whole)) == set(chosen.tolist())


def test_fifteen_percent_of_the_tokens_whatever_the_word(draws):
    tokens = sum((words >= 0).sum() for _, _, words, _ in draws)
    hidden = sum(weights.sum() for *_, (_, _, _, weights) in draws)
    assert hidden / tokens == pytest.approx(0.15, abs=0.006)
    long_tokens = long_hidden = 0
    for _, _, words, (_, positions, _, weights) in draws:
        sizes = np.bincount(words[words >= 0])
        long = (words >= 0) & (sizes[np.maximum(words, 0)] >= 3)
        long_tokens += long.sum()
        long_hidden += long[positions[weights == 1]].sum()
    assert long_tokens > 5000
    assert long_hidden / long_tokens == pytest.approx(0.15, abs=0.03)


def test_eighty_ten_ten(draws, tokenizer):
    fates = np.zeros(3)
    for ids, _, _, (masked, positions, _, weights) in draws:
        chosen = positions[weights == 1]
        new, old = masked[chosen], ids[chosen]
        fates += [(new == tokenizer.mask_id).sum(), (new == old).sum(), 0]
        fates[2] += ((new != old) & (new != tokenizer.mask_id)).sum()
        assert (new >= tokenizer.mask_id).all() or (new == tokenizer.unk_id).any()
    # A random token is the old one in 1 of 115 cases.
    np.testing.assert_allclose(fates / fates.sum(), [0.8, 0.1, 0.1], atol=0.012)


def test_never_more_than_k_and_nothing_in_an_empty_text(tokenizer):
    rng = np.random.default_rng(0)
    ids, mask = tokenizer.encode(captions()[0], 48)
    words = tokenizer.word_ids(ids)
    for _ in range(100):
        *_, weights = masking.mask_tokens(
            rng, ids, mask, words, tokenizer, probability=0.9, max_masked=3
        )
        assert weights.sum() <= 3
    empty, mask = tokenizer.encode("", 48)
    masked, _, _, weights = masking.mask_tokens(
        rng, empty, mask, tokenizer.word_ids(empty), tokenizer, max_masked=3
    )
    assert (masked == empty).all() and weights.sum() == 0
