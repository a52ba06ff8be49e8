"""Images in folders, and images or places in tables."""

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

from rsvl_jax.data.transforms import check_location
from rsvl_jax.embed.items import IMAGES, PLACES, Input, Item, Row, Skip
from rsvl_jax.errors import UserError
from rsvl_jax.inference.images import pixels

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
UNREADABLE = "no image that can be read"
# Names of columns; the first that is there is taken.
_PATHS = ("path", "filepath", "file_path", "filename", "file_name", "file", "image", "fn")
_LONGITUDES, _LATITUDES = ("lon", "longitude", "lng"), ("lat", "latitude")
_IDS = ("id", "image_id", "name")


def folder(root: str) -> Input:
    """The images of a folder and of all below it. Raises UserError where there are none."""
    names = sorted(
        os.path.relpath(os.path.join(parent, name), root)
        for parent, _, found in os.walk(root)
        for name in found
        if name.lower().endswith(SUFFIXES)
    )
    if not names:
        raise UserError(f"--input={root!r} holds no images ({', '.join(SUFFIXES)}) and no .tar")

    def items(start: int) -> Iterator[Item]:
        for name in names[start:]:
            path = os.path.join(root, name)
            yield Item(name, path, partial(_alone, path))

    return Input(IMAGES, (), items, identity(os.path.join(root, n) for n in names), len(names))


def _alone(path: str) -> tuple[Any, Row]:
    return picture(path), {}


def table(path: str) -> Input:
    """A CSV (or TSV) with a header: images by a column of paths, with their places where it has
    them; or places alone. Paths are relative to the table's folder, or whole.

    Raises UserError for a table without such columns.
    """
    with _rows(path) as rows:
        header = list(rows.fieldnames or ())
        named = {name.strip().lower(): name for name in reversed(header)}
        total = sum(1 for _ in rows)
    image, lon, lat, own = (
        next((named[name] for name in known if name in named), None)
        for known in (_PATHS, _LONGITUDES, _LATITUDES, _IDS)
    )
    if image is None and None in (lon, lat):
        raise UserError(
            f"--input={path!r} has the columns {', '.join(header) or 'none'}: it needs "
            "'path', or 'lon' and 'lat'"
        )
    home = os.path.dirname(os.path.abspath(path))

    def item(number: int, row: Mapping[str, str]) -> Item:
        file = path if image is None else os.path.join(home, row[image] or "")
        name = row[own] if own else str(number) if image is None else row[image]

        def load() -> tuple[Any, Row]:
            found = place(row[lon], row[lat]) if lon and lat else {}
            return (None if image is None else picture(file)), found

        return Item(name or str(number), file, load)

    def items(start: int) -> Iterator[Item]:
        with _rows(path) as rows:
            for number, row in islice(enumerate(rows), start, None):
                yield item(number, row)

    columns = ("lon", "lat") if lon and lat else ()
    return Input(PLACES if image is None else IMAGES, columns, items, identity([path]), total)


@contextmanager
def _rows(path: str) -> Iterator[csv.DictReader]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield csv.DictReader(file, delimiter="\t" if path.endswith(".tsv") else ",")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read --input={path!r}: {error}") from error


def picture(path: str) -> Any:
    """The pixels of a file. Raises Skip for what cannot be read."""
    try:
        return pixels(path)
    except UserError as error:
        raise Skip(UNREADABLE, str(error)) from error


def place(lon: Any, lat: Any) -> Row:
    """Columns of a place. Raises Skip for one that is not on Earth."""
    try:
        found = {"lon": float(lon), "lat": float(lat)}
        check_location(**found)
    except (UserError, TypeError, ValueError) as error:
        raise Skip("no place on Earth", f"lon={lon!r}, lat={lat!r}: {error}") from error
    return found


def identity(paths: Any) -> str:
    """Hash of names, sizes and dates of files; of names alone where they are not local."""
    digest = hashlib.sha256()
    for path in paths:
        seen = os.stat(path) if os.path.exists(path) else None
        facts = (seen.st_size, seen.st_mtime_ns) if seen else ()
        digest.update(repr((path, facts)).encode())
    return digest.hexdigest()
