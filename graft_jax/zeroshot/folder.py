"""A folder of labelled images: one sub-folder a class, as EuroSAT and its like come."""

import hashlib
import os
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rsvl_jax.data.fits import FITS
from rsvl_jax.data.transforms import CorruptImage, decode
from rsvl_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


@dataclass(frozen=True)
class Folder:
    """Images of a folder, decoded and fitted to `size` on access: uint8 [size, size, 3].

    Attributes:
      root: the folder · names: of the images, relative, in order · classes: sub-folders, sorted.
      labels: int32 [n], index into `classes` · size: pixels · fit: key of `FITS`.
    """

    root: str
    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray
    size: int
    fit: str

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> np.ndarray:
        path = os.path.join(self.root, self.names[row])
        with open(path, "rb") as file:
            content = file.read()
        try:
            image = decode(content)
        except CorruptImage as error:
            raise UserError(f"{path!r} cannot be decoded: mend or delete it") from error
        return FITS[self.fit](image, self.size)

    def sides(self) -> tuple[int, int]:
        """The smallest and the largest side of any image, pixels, from the files' heads.

        Raises UserError for a file that is no image.
        """
        found: list[int] = []
        for name in self.names:
            path = os.path.join(self.root, name)
            try:
                with Image.open(path) as image:
                    found.extend(image.size)
            except OSError as error:
                raise UserError(f"{path!r} is no image: mend or delete it") from error
        return min(found), max(found)

    @property
    def fingerprint(self) -> str:
        """Of the names of the images, and so of the split and its labels."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()[:16]


def read(root: str, *, size: int, fit: str, listed: str | None = None) -> Folder:
    """Finds the images of a folder; with `listed`, a text file, only those that it names.

    A line of the list is a path below the folder, or a file's name alone where that is unique.
    Raises UserError for a folder without images in sub-folders, and for a line that names none.
    """
    if not os.path.isdir(root):
        raise UserError(f"no folder {root!r}: --images is a folder with one sub-folder a class")
    everything = sorted(
        os.path.relpath(os.path.join(parent, name), root)
        for parent, _, names in os.walk(root)
        for name in names
        if name.lower().endswith(SUFFIXES)
    )
    names = [name for name in everything if os.sep in name]
    if listed is not None:
        names = _chosen(names, listed)
    if not names:
        raise UserError(f"{root!r} has no images in sub-folders ({', '.join(SUFFIXES)})")
    # The classes are those of the whole folder: a short list must not make the task easier.
    classes = sorted({os.path.dirname(name) for name in everything if os.sep in name})
    labels = np.array([classes.index(os.path.dirname(name)) for name in names], np.int32)
    return Folder(root, tuple(names), tuple(classes), labels, size, fit)


def _chosen(names: list[str], path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --list={path!r}: {error}") from error
    by_name: dict[str, list[str]] = {}
    for name in names:
        for key in {name, os.path.basename(name)}:
            by_name.setdefault(key, []).append(name)
    found = []
    for line in lines:
        matches = by_name.get(line.removeprefix("./"), [])
        if len(matches) != 1:
            what = "names no image" if not matches else f"names {len(matches)} images"
            raise UserError(f"{path!r}: {line!r} {what} of the folder; give its path below it")
        found.append(matches[0])
    return found
