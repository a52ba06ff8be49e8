"""Arrays as long as a source has rows, in files without a name.

The system writes their pages out and takes them back as it needs to, so what a build holds in
memory does not grow with the rows.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator

import numpy as np

WINDOW = 2**16  # rows looked at in one go


def array(folder: str, dtype: np.dtype | type, length: int) -> np.ndarray:
    """Zeros [length], in a file below `folder` that is gone when they are.

    Raises OSError where the disk has no room for them.
    """
    size = np.dtype(dtype).itemsize * length
    if not size:
        return np.zeros(length, dtype)
    with tempfile.TemporaryFile(dir=folder) as file:
        # Now, and not by a signal when a page is first written to.
        os.posix_fallocate(file.fileno(), 0, size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype)


def windows(length: int) -> Iterator[slice]:
    """Slices of at most WINDOW that cover range(length)."""
    for start in range(0, length, WINDOW):
        yield slice(start, min(start + WINDOW, length))


def parts(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Numbers of the rows by ranges of their hashes, lowest first, ascending inside of each.

    hashes: uint64 [n], evenly spread; a part holds about WINDOW of them.
    """
    bits = max(0, (len(hashes) - 1) // WINDOW).bit_length()
    for part in range(2**bits):
        found = [
            np.flatnonzero(_leading(hashes[window], bits) == part) + window.start
            for window in windows(len(hashes))
        ]
        yield np.concatenate(found) if found else np.zeros(0, np.int64)


def _leading(hashes: np.ndarray, bits: int) -> np.ndarray:
    # A shift by all 64 bits is not defined.
    return hashes >> np.uint64(64 - bits) if bits else np.zeros(len(hashes), np.uint64)
