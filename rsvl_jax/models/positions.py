"""Positions of image patches: sin-cos tables, and learned tables moved to another grid."""

import jax
import jax.numpy as jnp
import numpy as np

from rsvl_jax.errors import UserError


def sincos_2d(grid: tuple[int, int], width: int, step: float = 1.0) -> np.ndarray:
    """Fixed 2-D sin-cos table, float32 [h*w, width], row-major.

    Half of the width encodes the column, half the row, each as [sin, cos] at frequencies
    10000^(-i / (width/4)), the order of facebookresearch/mae util/pos_embed.py. step: from one
    patch to the next.
    """
    if width % 4:
        raise UserError(f"width {width} is not divisible by 4, which sin-cos positions need")
    omega = 10000.0 ** (-np.arange(width // 4) / (width // 4))
    rows, columns = np.meshgrid(np.arange(grid[0]), np.arange(grid[1]), indexing="ij")
    halves = []
    for place in (columns, rows):
        angle = step * place.reshape(-1, 1) * omega
        halves += [np.sin(angle), np.cos(angle)]
    return np.concatenate(halves, axis=1).astype(np.float32)


def resize_table(table: jax.Array, old: tuple[int, int], new: tuple[int, int]) -> jax.Array:
    """Bicubic interpolation of a position table [h*w, D] to another grid [h'*w', D].

    The convention of DINO and FLAVA (PyTorch bicubic): pixel centres aligned, cubic coefficient
    -0.75, borders repeated, no smoothing when the grid shrinks.
    """
    if old == new:
        return table
    rows, columns = (jnp.asarray(_bicubic(*sizes)) for sizes in zip(old, new, strict=True))
    square = table.reshape(*old, table.shape[-1]).astype(jnp.float32)
    resized = jnp.einsum("ih,jw,hwd->ijd", rows, columns, square, precision="highest")
    return resized.reshape(-1, table.shape[-1]).astype(table.dtype)


def _bicubic(old: int, new: int) -> np.ndarray:
    """Interpolation matrix, float32 [new, old]: rows sum to one."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centre).astype(int)
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        weight = _cubic(np.abs(centre - (first + tap)))
        np.add.at(matrix, (np.arange(new), np.clip(first + tap, 0, old - 1)), weight)
    return matrix.astype(np.float32)


def _cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' cubic convolution kernel (1981) for distances in [0, 2]."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
