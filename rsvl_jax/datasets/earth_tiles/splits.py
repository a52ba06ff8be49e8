"""Train, validation and test as geographic blocks with a gap, so that no pixel is shared.

The globe is cut into blocks of 20 by 20 degrees, each of one split. A tile is used only if it, and
a margin around it, lies wholly on blocks of one split: tiles of two splits are at least two
margins (16 pixels, 1.07 degrees) apart, in both axes and across the antimeridian.

The blocks were drawn once, by a search that looked at label and continent shares and the number of
tiles lost in the gaps, never at a model; since then the list is frozen.
"""

import numpy as np

SPLITS = ("train", "validation", "test")
BLOCK = 300  # pixels: 20 degrees
MARGIN = 8
ROWS, COLS = 9, 18

VALIDATION_BLOCKS = (12, 21, 30, 38, 44, 47, 79, 81, 97, 104, 117, 118, 122, 131)
TEST_BLOCKS = (2, 4, 11, 20, 22, 29, 49, 67, 68, 69, 87, 88, 99, 100, 113, 114, 125)


def block_of(row: np.ndarray, col: np.ndarray, size: int) -> np.ndarray:
    """The block of the centre of each tile, int64: row of blocks from the north x 18 + column."""
    return _block(row + size // 2, col + size // 2)


def split_of(row: np.ndarray, col: np.ndarray, size: int) -> np.ndarray:
    """Index into SPLITS of each tile, or -1 where it reaches into the gap between two splits."""
    far = size - 1 + MARGIN
    table = _table()
    corners = [table[_block(row + y, col + x)] for y in (-MARGIN, far) for x in (-MARGIN, far)]
    same = np.all([corner == corners[0] for corner in corners], axis=0)
    return np.where(same, corners[0], -1)


def _block(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    return np.clip(row // BLOCK, 0, ROWS - 1) * COLS + col // BLOCK % COLS


def _table() -> np.ndarray:
    table = np.zeros(ROWS * COLS, np.int64)
    table[list(VALIDATION_BLOCKS)] = SPLITS.index("validation")
    table[list(TEST_BLOCKS)] = SPLITS.index("test")
    return table
