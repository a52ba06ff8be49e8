"""SkyScript as it is published: zips of images and of metadata, or what they unpack to, and CSVs.

    images2.zip ... images7.zip      or images2/ ... : JPEGs
    meta2.zip ... meta7.zip          or meta2/ ...   : one pickle an image, of the same stem
    SkyScript_train_*.csv, SkyScript_val_5K_*.csv, SkyScript_test_30K_*.csv, here or in dataframe/

Columns: filepath, title, title_multi_objects, similarity_*; polished: filepath, title_raw, title.
Source: wangzhecheng/SkyScript, README.md. An image and its pickle are found by name in whatever zip
they are: only the folder in `filepath` is not relied on.
"""

import argparse
import glob
import math
import os
from collections.abc import Mapping
from typing import Any

from rsvl_jax.datasets.image_text.reader import SPLITS, Drop, Reader, Row
from rsvl_jax.datasets.image_text.readers import plain_pickles
from rsvl_jax.datasets.image_text.readers.lines import Lines
from rsvl_jax.datasets.image_text.readers.zips import Zips
from rsvl_jax.errors import UserError

_SUBSETS = {"unfiltered": "unfiltered_5M", "top50pct": "top50pct", "top30pct": "top30pct"}
_FILTERS = ("openai", "laion_RS")
_CAPTIONS = ("title_multi_objects", "title", "title_raw")  # the fullest first
_META = ("required", "optional", "none")
_FOLDERS = ("", "dataframe", "dataframes")  # of the CSVs


class SkyScript(Reader):
    """Pairs with coordinates, time and OpenStreetMap tags from the pickles."""

    layout = "skyscript"
    help = "SkyScript's zips or unpacked folders, with its CSVs"

    def __init__(self, source: str, tables: Mapping[str, str], meta: str):
        """tables: split -> CSV. meta: one of _META."""
        self.source, self.meta = source, meta
        self.tables = {split: Lines(path) for split, path in tables.items()}
        for table in self.tables.values():
            table.column("filepath", "csv")
            table.column(_CAPTIONS, "csv")
        self._images = Zips(_zips(source, "images"))
        self._metas = Zips(_zips(source, "meta") if meta != "none" else [])
        self._image_folders = _folders(source, "images")
        self._meta_folders = _folders(source, "meta") if meta != "none" else []

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Which CSVs."""
        add = parser.add_argument
        add("--subset", choices=tuple(_SUBSETS), default="top30pct", help="of the training pairs")
        add("--filter", choices=_FILTERS, default="openai", help="the CLIP that chose the subset")
        add("--polished", action="store_true", help="captions rewritten by ChatGPT (laion_RS only)")
        add("--csv", default="", help="another CSV of training pairs, instead of these three")
        add("--meta", choices=_META, default="required", help="what becomes of rows without it")

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> "SkyScript":
        """Finds the CSVs below --source."""
        source = arguments.source
        if not os.path.isdir(source):
            raise UserError(f"--source={source!r} is no folder: give that of SkyScript's files")
        reader = cls(source, _tables(arguments), arguments.meta)
        if not (reader._images.paths or reader._image_folders):
            raise UserError(f"no images2.zip ... images7.zip or images2/ ... in {source!r}")
        if arguments.meta == "required" and not (reader._metas.paths or reader._meta_folders):
            raise UserError(
                f"no meta2.zip ... meta7.zip or meta2/ ... in {source!r}: download them for the "
                "places, or give --meta=none to do without"
            )
        return reader

    def describe(self) -> dict[str, Any]:
        """CSVs by split, and what becomes of rows without metadata."""
        tables = {split: os.path.basename(table.path) for split, table in self.tables.items()}
        return {"folder": os.path.abspath(self.source), "csv": tables, "meta": self.meta}

    def files(self) -> list[str]:
        """CSVs, zips and folders."""
        tables = [table.path for table in self.tables.values()]
        zips = [*self._images.paths, *self._metas.paths]
        return [*tables, *zips, *self._image_folders, *self._meta_folders]

    def prepare(self, folder: str) -> None:
        """Where the rows of the CSVs are, and the members of the zips."""
        for split, table in self.tables.items():
            table.prepare(os.path.join(folder, f"{split}.npy"))
        self._images.prepare(os.path.join(folder, "images"))
        self._metas.prepare(os.path.join(folder, "meta"))

    def open(self, folder: str) -> None:
        """Opens them."""
        for split, table in self.tables.items():
            table.open(os.path.join(folder, f"{split}.npy"))
        self._images.open(os.path.join(folder, "images"))
        self._metas.open(os.path.join(folder, "meta"))

    def __len__(self) -> int:
        return sum(len(table) for table in self.tables.values())

    def read(self, index: int) -> Row:
        """A pair; raises Drop for one whose image, or required metadata, is not to be had."""
        split, fields = self._line(index)
        path = fields["filepath"]
        image = self._image(path)
        captions = [fields[name] for name in _CAPTIONS if fields.get(name)]
        given = self._metadata(path) if self.meta != "none" else {}
        if len(self.tables) < len(SPLITS):
            split = "" if split == "train" else split  # what has no CSV is held out of these
        missing = self.meta == "optional" and not given
        return Row(
            key=path,
            image=image,
            captions=captions,
            split=split,
            notes=("metadata is missing",) if missing else (),
            **given,
        )

    def _line(self, index: int) -> tuple[str, dict[str, str]]:
        for split, table in self.tables.items():
            if index < len(table):
                return split, table.read(index)
            index -= len(table)
        raise IndexError(f"row {index} beyond the last")

    def _image(self, path: str) -> bytes:
        name = os.path.basename(path)
        folders = [os.path.join(self.source, os.path.dirname(path)), *self._image_folders]
        found = _unpacked(folders if self._image_folders else (), name, "image")
        found = self._images.read(name, "image") if found is None else found
        if found is None:
            raise Drop("image is missing", path)
        return found

    def _metadata(self, path: str) -> dict[str, Any]:
        """Fields of the row from the pickle; none where it is optional and not there."""
        name = os.path.splitext(os.path.basename(path))[0] + ".pickle"
        try:
            data = _unpacked(self._meta_folders, name, "metadata")
            data = self._metas.read(name, "metadata") if data is None else data
            if data is None:
                raise Drop("metadata is missing", path)
            return _fields(plain_pickles.loads(data))
        except Drop as drop:
            if self.meta == "optional" and drop.reason == "metadata is missing":
                return {}
            raise Drop(drop.reason, f"{path}: {drop.detail}") from drop


def _fields(meta: Any) -> dict[str, Any]:
    """box, time and tags of a pickle; raises Drop where it has other types than SkyScript's."""
    try:
        given = meta.get("box", meta.get("bbox"))
        west, south, east, north = (float(side) for side in given)
        return {
            "box": (west, south, east, north),
            "time": _iso(meta.get("time")),
            "tags": _tags(meta),
        }
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise Drop("metadata is not SkyScript's", str(error)[:200]) from error


def _iso(time: Any) -> str:
    """(year, month, day, hour, minute) as ISO 8601; "" for what is no such time."""
    if not isinstance(time, tuple | list) or len(time) < 3:
        return ""
    if not all(isinstance(part, int | float) and math.isfinite(part) for part in time[:5]):
        return ""
    year, month, day, *clock = (int(part) for part in time[:5])
    hour, minute = (*clock, 0, 0)[:2]
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}"


def _tags(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    center, around = meta.get("center_tags") or {}, meta.get("surrounding_tags") or []
    if not isinstance(center, dict) or not all(isinstance(tags, dict) for tags in around):
        raise TypeError("tags that are no dicts")
    if not center and not around:
        return None
    return {"center": _texts(center), "surrounding": [_texts(tags) for tags in around]}


def _texts(tags: Mapping[Any, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in tags.items()}


def _tables(arguments: argparse.Namespace) -> dict[str, str]:
    """CSVs by split; those of validation and test are taken where they are there."""
    chosen = arguments.filter
    if arguments.polished and chosen != "laion_RS" and arguments.subset != "unfiltered":
        raise UserError("--polished has no subset chosen by openai: add --filter=laion_RS")
    train = f"train_{_SUBSETS[arguments.subset]}"
    if arguments.subset != "unfiltered":
        train += f"_filtered_by_CLIP_{chosen}"
    train += "_language_polished" * arguments.polished
    path = arguments.csv or _csv(arguments.source, train)
    if path is None:
        have = ", ".join(sorted(os.path.basename(p) for p in _all_csvs(arguments.source)))
        raise UserError(
            f"no SkyScript_{train}.csv in {arguments.source!r} (it has {have or 'no CSV'}): "
            "download it, or choose another --subset, --filter, --polished or --csv"
        )
    found = {"train": path}
    for split, name in (("validation", "val_5K"), ("test", "test_30K")):
        held = _csv(arguments.source, f"{name}_filtered_by_CLIP_{chosen}")
        if held is not None:
            found[split] = held
    return found


def _csv(source: str, name: str) -> str | None:
    for folder in _FOLDERS:
        for prefix in ("SkyScript_", ""):
            path = os.path.join(source, folder, f"{prefix}{name}.csv")
            if os.path.isfile(path):
                return path
    return None


def _all_csvs(source: str) -> list[str]:
    return [path for f in _FOLDERS for path in glob.glob(os.path.join(source, f, "*.csv"))]


def _zips(source: str, kind: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(source), f"{kind}[0-9]*.zip")))


def _folders(source: str, kind: str) -> list[str]:
    found = glob.glob(os.path.join(glob.escape(source), f"{kind}[0-9]*"))
    return sorted(path for path in found if os.path.isdir(path))


def _unpacked(folders: Any, name: str, what: str) -> bytes | None:
    """Bytes of the file of that name in the first folder that has it."""
    for folder in folders:
        try:
            with open(os.path.join(folder, name), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise Drop(f"{what} cannot be read", f"{name}: {error}") from error
    return None
