"""Windows over an image."""

import numpy as np


def starts(length: int, size: int, stride: int) -> np.ndarray:
    """First pixel of each window along one axis, int64 [n], rising from 0.

    The last window ends where the image ends, so that all are full of image.
    """
    if length < size:
        raise ValueError(f"no window of {size} in {length}")
    regular = np.arange(0, length - size + 1, stride)
    last = length - size
    return regular if regular[-1] == last else np.append(regular, last)
