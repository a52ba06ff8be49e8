"""Which patches and which tokens are hidden, in NumPy, one sample at a time."""

import math

import numpy as np

from rsvl_jax.data.tokenizer import Tokenizer
from rsvl_jax.errors import UserError

_TRIES = 10
# 16 patches of a 14 x 14 grid in FLAVA; other grids keep the share.
_MIN_BLOCK_SHARE = 16 / 196


def block_mask(
    rng: np.random.Generator,
    grid: tuple[int, int],
    num_masked: int,
    *,
    min_block: int | None = None,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> np.ndarray:
    """BEiT's blockwise mask with exactly `num_masked` patches hidden: bool [h * w].

    Rectangles of log-uniform aspect are laid down until none fits any more; the original leaves a
    few patches of the budget unused, here single random patches use them up, so that the count is
    fixed. `min_block` (patches) is 16 on FLAVA's 14 x 14 grid and in proportion on others.
    Source: facebookresearch/multimodal, torchmultimodal/transforms/flava_transform.py.
    """
    patches = _check_count(grid, num_masked)
    if min_block is None:
        min_block = max(1, round(_MIN_BLOCK_SHARE * patches))
    mask = _blocks(rng, grid, num_masked, min_block, aspect).reshape(-1)
    missing = num_masked - int(mask.sum())
    if missing:
        mask[rng.choice(np.flatnonzero(~mask), missing, replace=False)] = True
    return mask


def random_mask(rng: np.random.Generator, grid: tuple[int, int], num_masked: int) -> np.ndarray:
    """`num_masked` patches of the grid, uniformly at random (MAE): bool [h * w]."""
    patches = _check_count(grid, num_masked)
    mask = np.zeros(patches, bool)
    mask[rng.permutation(patches)[:num_masked]] = True
    return mask


def _check_count(grid: tuple[int, int], num_masked: int) -> int:
    patches = grid[0] * grid[1]
    if not 0 <= num_masked <= patches:
        raise UserError(f"cannot mask {num_masked} of {patches} patches; choose 0 to {patches}")
    return patches


def _blocks(
    rng: np.random.Generator,
    grid: tuple[int, int],
    budget: int,
    min_block: int,
    aspect: tuple[float, float],
) -> np.ndarray:
    """The mask before the rest of the budget is used up: bool [h, w], at most `budget` True."""
    mask = np.zeros(grid, bool)
    bounds = math.log(aspect[0]), math.log(aspect[1])
    left = budget
    while left > 0:
        new = _lay_block(rng, mask, left, min_block, bounds)
        if not new:
            break
        left -= new
    return mask


def _lay_block(
    rng: np.random.Generator,
    mask: np.ndarray,
    left: int,
    min_block: int,
    bounds: tuple[float, float],
) -> int:
    """Tries to add one rectangle of at most `left` new patches; returns how many it added."""
    rows, columns = mask.shape
    draws = rng.random(4 * _TRIES).tolist()
    for i in range(0, 4 * _TRIES, 4):
        area = min_block + draws[i] * (left - min_block)
        ratio = math.exp(bounds[0] + draws[i + 1] * (bounds[1] - bounds[0]))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if height >= rows or width >= columns:
            continue
        top = int(draws[i + 2] * (rows - height + 1))
        side = int(draws[i + 3] * (columns - width + 1))
        block = mask[top : top + height, side : side + width]
        new = height * width - int(np.count_nonzero(block))
        if 0 < new <= left:
            block[:] = True
            return new
    return 0


def max_masked_tokens(length: int, probability: float = 0.15) -> int:
    """A fixed K for `mask_tokens` that leaves room for the last whole word."""
    return min(length, math.ceil(probability * length) + 4)


def mask_tokens(
    rng: np.random.Generator,
    ids: np.ndarray,
    mask: np.ndarray,
    word_ids: np.ndarray,
    tokenizer: Tokenizer,
    *,
    probability: float = 0.15,
    max_masked: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whole-word masking of BERT: of the chosen tokens 80 % [MASK], 10 % random, 10 % as they are.

    ids int32 [T], mask bool [T] (True: not padding), word_ids int [T] (-1: never chosen; one word
    a token gives plain token masking). Every word is hidden with `probability`, long or short, and
    close to that share of the tokens in each caption: taking words until a budget is full, as BERT
    does, would hardly ever hide a long word of a short caption.

    Returns masked ids int32 [T], positions int32 [K], labels int32 [K] (the true ids) and weights
    float32 [K] (0 beyond the chosen tokens), K = `max_masked`. Devlin et al. 2019, section 3.1.
    """
    chosen = _choose(rng, np.where(mask, word_ids, -1), probability, max_masked)
    count = len(chosen)
    positions, labels = np.zeros(max_masked, np.int32), np.zeros(max_masked, np.int32)
    weights = np.zeros(max_masked, np.float32)
    positions[:count], labels[:count], weights[:count] = chosen, ids[chosen], 1

    fate = rng.random(count)
    other = rng.integers(tokenizer.first_id, tokenizer.vocab_size, count, dtype=np.int32)
    masked = ids.copy()
    masked[chosen] = np.where(
        fate < 0.8, tokenizer.mask_id, np.where(fate < 0.9, other, ids[chosen])
    )
    return masked, positions, labels, weights


def _choose(
    rng: np.random.Generator, words: np.ndarray, probability: float, limit: int
) -> np.ndarray:
    """Sorted positions of the tokens to hide, at most `limit`, whole words only."""
    real = np.flatnonzero(words >= 0)
    sizes = np.bincount(words[real])
    order = rng.permutation(np.flatnonzero(sizes))
    ends = np.cumsum(sizes[order])
    # The words lie shuffled on a circle of all tokens; an arc of the wanted share picks those
    # that start in it, each with probability `probability`, whatever its length.
    begins = (ends - sizes[order]) / max(len(real), 1)
    picked = order[(begins - rng.random()) % 1 < probability]
    fitting = picked[np.cumsum(sizes[picked]) <= limit]
    hidden = np.zeros(len(sizes), bool)
    hidden[fitting] = True
    return real[hidden[words[real]]]
