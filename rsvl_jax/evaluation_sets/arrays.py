"""SAT-4 and SAT-6: sat-4-full.mat (or .h5) with train_x, train_y, test_x and test_y.

In a .mat file x is [28, 28, 4, N], red, green, blue and near infrared, and y [C, N], one-hot; HDF5
files may have the axes the other way round. The classes are those of the one-hot columns.
"""

import glob
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import splits
from rsvl_jax.evaluation_sets.collection import Collection
from rsvl_jax.evaluation_sets.known import Known

_NAMES = ("red", "green", "blue", "near infrared")
_BANDS = len(_NAMES)


@dataclass(frozen=True)
class _Rows:
    """uint8 [N, H, W, C] as RGB images."""

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> np.ndarray:
        return np.ascontiguousarray(self.values[row][..., :3])


@dataclass(frozen=True)
class _Bands(_Rows):
    """All four, float32."""

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[row].astype(np.float32)


def read(known: Known, root: str, split: str) -> Collection:
    """The train or test split. Raises UserError where there is no such file, or another in it."""
    if splits.spelt(split) not in ("train", "test"):
        raise UserError(f"{known.title} has the splits train and test, no {split!r}")
    path = _file(root)
    x, y = _arrays(path, f"{split}_x", f"{split}_y")
    images, labels = _images(x, path), _labels(y, len(known.classes), path)
    if len(images) != len(labels):
        raise UserError(f"{path!r} has {len(images)} images and {len(labels)} labels")
    return Collection(
        name=known.name,
        split=split,
        ids=tuple(f"{split}/{row}" for row in range(len(labels))),
        images=_Rows(images),
        labels=labels,
        classes=known.classes,
        bands=_Bands(images),
        band_names=_NAMES,
        protocol={"split_rule": "as published", "bands": "red, green, blue of four"},
    )


def _file(root: str) -> str:
    if os.path.isfile(root):
        return root
    found = [
        path
        for ending in ("mat", "h5", "hdf5")
        for path in sorted(glob.glob(os.path.join(glob.escape(root), f"*.{ending}")))
    ]
    if len(found) != 1:
        raise UserError(f"{root!r} has {len(found)} .mat or .h5 files: give the path of one")
    return found[0]


def _arrays(path: str, *names: str) -> list[np.ndarray]:
    content = _open(path)
    for name in names:
        if name not in content:
            raise UserError(f"{path!r} has no {name!r}")
    try:
        return [np.asarray(content[name]) for name in names]
    except (KeyError, OSError, RuntimeError) as error:  # of a damaged HDF5 file
        raise UserError(f"{path!r} cannot be read: {error}") from error


def _open(path: str) -> Any:
    from scipy.io import loadmat

    if path.endswith(".mat"):
        try:
            return loadmat(path)
        except NotImplementedError:  # MATLAB 7.3 files are HDF5
            pass
        except Exception as error:  # of a damaged file: of many kinds
            raise UserError(f"{path!r} cannot be read: {error}") from error
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path!r} is HDF5: pip install rsvl-jax[hdf5]") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path!r} cannot be read: {error}") from error


def _images(x: np.ndarray, path: str) -> np.ndarray:
    """[N, H, W, C], whichever way the axes were written."""
    if x.ndim == 4 and x.shape[2] == _BANDS and x.shape[3] != _BANDS:
        return np.moveaxis(x, -1, 0)
    if x.ndim == 4 and x.shape[3] == _BANDS:
        return x
    if x.ndim == 4 and x.shape[1] == _BANDS:  # HDF5 turns MATLAB's axes round
        return x.transpose(0, 3, 2, 1)
    raise UserError(f"{path!r} has images of shape {x.shape}: four bands are wanted")


def _labels(y: np.ndarray, classes: int, path: str) -> np.ndarray:
    if y.ndim == 2 and classes in y.shape:
        one_hot = y if y.shape[1] == classes and y.shape[0] != classes else y.T
        if (one_hot.astype(bool).sum(axis=1) != 1).any():
            raise UserError(f"{path!r} has images of no class, or of several: one-hot is wanted")
        return one_hot.argmax(axis=1).astype(np.int32)
    raise UserError(f"{path!r} has labels of shape {y.shape}: one-hot of {classes} is wanted")
