"""NumPy's .npz archives; pickled objects in them are refused."""

import io
import math
from functools import partial

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.weights.sources.archive import Archive
from rsvl_jax.weights.sources.lazy import Arrays, Shape, Tensor

_HEADER = 16 << 10  # NumPy itself refuses a header above 10,000 bytes


def read(path: str) -> Arrays:
    """The arrays of an archive. Raises UserError for members that are not plain arrays."""
    archive = Archive(path)
    names = [name for name in archive.names() if name.endswith(".npy")]
    if len(names) < len(archive.names()):
        other = next(name for name in archive.names() if not name.endswith(".npy"))
        raise UserError(f"{path!r} has a member {other!r}: an .npz holds .npy members alone")
    return Arrays({name.removesuffix(".npy"): _tensor(archive, name) for name in names})


def _tensor(archive: Archive, name: str) -> Tensor:
    shape, fortran, dtype, start = _header(archive, name)
    if dtype.hasobject:
        raise UserError(f"{archive.path!r}: {name!r} holds pickled objects: refused")
    expected = start + math.prod(shape) * dtype.itemsize
    if archive.size(name) != expected:
        raise UserError(
            f"{archive.path!r}: {name!r} declares an array {list(shape)} of {dtype}, {expected} "
            f"bytes, and has {archive.size(name)}"
        )
    return Tensor(shape, dtype, partial(_array, archive, name, shape, fortran, dtype, start))


def _header(archive: Archive, name: str) -> tuple[Shape, bool, np.dtype, int]:
    file = io.BytesIO(archive.read(name, _HEADER))
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        shape, fortran, dtype = readers[np.lib.format.read_magic(file)](file)
    except Exception as error:  # a header is Python source, and fails in as many ways
        raise UserError(f"{archive.path!r}: {name!r} is not an .npy array: {error!r}") from error
    if any(size < 0 for size in shape):
        raise UserError(f"{archive.path!r}: {name!r} declares the shape {list(shape)}: refused")
    return shape, fortran, dtype, file.tell()


def _array(
    archive: Archive, name: str, shape: Shape, fortran: bool, dtype: np.dtype, start: int
) -> np.ndarray:
    flat = np.frombuffer(archive.read(name), dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")
