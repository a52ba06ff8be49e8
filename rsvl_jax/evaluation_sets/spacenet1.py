"""SpaceNet 1: tiles of Rio de Janeiro in RGB, and the outlines of the buildings on each.

    SN1_buildings/train/3band/3band_AOI_1_RIO_img12.tif
    SN1_buildings/train/geojson/Geo_AOI_1_RIO_img12.geojson

as the archives unpack and torchgeo has them; the folder above `3band` may be given itself, and
`vectordata/geojson` stands for `geojson` in older releases. Tiles and outlines belong together by
their number. Only the published training folder has outlines: its tiles are what is split.
"""

import json
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvl_jax.errors import UserError
from rsvl_jax.evaluation_sets import pictures, splits
from rsvl_jax.evaluation_sets.collection import IGNORE, Collection
from rsvl_jax.evaluation_sets.known import Known

BANDS = 3
_IMAGES = "3band"
_OUTLINES = ("geojson", os.path.join("vectordata", "geojson"), os.path.join("geojson", "geojson"))
_ABOVE = ("", "train", os.path.join("SN1_buildings", "train"))
_NUMBER = re.compile(r"_img(\d+)\.")
_KINDS = ("Polygon", "MultiPolygon")
_WGS84 = "EPSG:4326"  # of GeoJSON that does not say (RFC 7946)

RULES = {
    "pixels": "uint8 RGB as published",
    "mask": "1 where the centre of a pixel lies in a building, 0 elsewhere",
    "ignored": "pixels whose three bands are 0: no data",
}


@dataclass(frozen=True)
class _Tiles:
    """Row -> uint8 [H,W,3]."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        pixels, _ = pictures.bands(self.paths[row])
        return _rgb(pixels, self.paths[row])


@dataclass(frozen=True)
class Buildings:
    """Masks of tiles: row -> uint8 [H,W], 0 background, 1 building, or IGNORE.

    Attributes:
      paths: of the tiles. outlines: of the GeoJSON of each.
    """

    paths: Sequence[str]
    outlines: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> np.ndarray:
        path = self.paths[row]
        pixels = _rgb(pictures.bands(path)[0], path)
        mask = _drawn(self.outlines[row], path, pixels.shape[:2])
        mask[~pixels.any(axis=-1)] = IGNORE
        return mask

    def counts(self, row: int) -> tuple[int, int]:
        """Outlines of a tile, and those of them that enclose nothing and are left out."""
        shapes, empty, _ = _shapes(self.outlines[row])
        return len(shapes) + empty, empty


def read(known: Known, root: str, split: str, rule: str = "") -> Collection:
    """A split of the tiles that have outlines, in the order of their numbers or of the list.

    Raises UserError, one line, for a tile without outlines, outlines without a tile, a list that is
    missing, and what `splits` raises. Files are opened when they are asked for.
    """
    if rule in (splits.OWN, splits.REMOTECLIP):
        raise UserError(f"split rule {rule!r}: {known.name} has all, {', '.join(known.lists)}")
    images, outlines = _folders(root)
    tiles, drawn = _by_number(images, ".tif"), _by_number(outlines, ".geojson")
    _check_pairs(images, tiles, outlines, drawn)
    numbers = sorted(tiles)
    names = [tiles[number] for number in numbers]
    split = splits.spelt(split)
    rule = splits.rule_of(known, root, False, split, rule)
    rows = splits.chosen(names, names, known, root, split, rule)
    paths = [os.path.join(images, names[row]) for row in rows]
    return Collection(
        name=known.name,
        split=split,
        ids=tuple(names[row] for row in rows),
        images=_Tiles(paths),
        masks=Buildings(paths, [os.path.join(outlines, drawn[numbers[row]]) for row in rows]),
        pixel_classes=known.classes,
        protocol={
            **splits.told(known, root, split, rule),
            "images_in_all": len(names),
            "images_expected": known.images,
            **RULES,
        },
    )


def _folders(root: str) -> tuple[str, str]:
    """Of tiles and of outlines."""
    for above in _ABOVE:
        images = os.path.join(root, above, _IMAGES)
        for name in _OUTLINES:
            outlines = os.path.join(root, above, name)
            # Some archives hold the folder once more inside of itself.
            if all(map(os.path.isdir, (images, outlines))) and _by_number(outlines, ".geojson"):
                return images, outlines
        if os.path.isdir(images):
            raise UserError(
                f"{os.path.join(root, above)!r} has {_IMAGES}, but no outlines, geojson/..._img1"
                ".geojson: unpack SN1_buildings_train_AOI_1_Rio_geojson_buildings.tar.gz there"
            )
        if os.path.isdir(os.path.join(root, above, "8band")):
            raise UserError(
                f"{os.path.join(root, above)!r} has the 8-band tiles alone: the RGB ones, folder "
                f"{_IMAGES}, are wanted"
            )
    raise UserError(
        f"{root!r} has no folders {_IMAGES} and geojson: give the published training folder, "
        "SN1_buildings/train"
    )


def _by_number(folder: str, ending: str) -> dict[int, str]:
    """Files by the number of their tile; UserError for two of one number, and for none."""
    found: dict[int, str] = {}
    for name in sorted(os.listdir(folder)):
        number = _NUMBER.search(name)
        if number is None or not name.lower().endswith(ending) or name.startswith("."):
            continue
        before = found.setdefault(int(number[1]), name)
        if before != name:
            raise UserError(f"{folder!r} has two files of one tile: {before!r}, {name!r}")
    return found


def _check_pairs(images: str, tiles: dict[int, str], outlines: str, drawn: dict[int, str]) -> None:
    if not tiles:
        raise UserError(f"{images!r} has no tiles, ..._img1.tif")
    for folder, mine, other, what in (
        (images, tiles, drawn, f"outlines in {outlines!r}"),
        (outlines, drawn, tiles, f"tile in {images!r}"),
    ):
        alone = sorted(set(mine) - set(other))
        if alone:
            path = os.path.join(folder, mine[alone[0]])
            raise UserError(f"{path!r} has no {what} ({len(alone)} such files)")


def _rgb(pixels: np.ndarray, path: str) -> np.ndarray:
    if pixels.shape[2] != BANDS or pixels.dtype != np.uint8:
        raise UserError(
            f"{path!r} has {pixels.shape[2]} bands of {pixels.dtype}: the RGB tiles (3 bands of "
            f"uint8, 406 x 439 pixels) of the folder {_IMAGES} are wanted"
        )
    return pixels


def _drawn(outlines: str, tile: str, size: tuple[int, ...]) -> np.ndarray:
    """uint8 [H,W]: 1 in the outlines. By pixel centres, as torchgeo's all_touched=False."""
    import rasterio
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom

    shapes, _, crs = _shapes(outlines)
    with rasterio.open(tile) as file:
        transform, own = file.transform, file.crs
    if own is None or transform.is_identity:
        raise UserError(f"{tile!r} is not georeferenced: take the tile as published")
    if not shapes:
        return np.zeros(size, np.uint8)
    if crs.to_epsg() != own.to_epsg():
        shapes = transform_geom(crs, own, shapes)
    return rasterize(shapes, out_shape=size, transform=transform, fill=0, dtype=np.uint8)


def _shapes(path: str) -> tuple[list[Any], int, Any]:
    """Polygons of a GeoJSON, how many of its features enclose nothing, and its CRS."""
    from rasterio.features import is_valid_geom

    content = _parsed(path)
    features = content.get("features", []) if content else []
    shapes, empty = [], 0
    for feature in features:
        shape = feature.get("geometry") if isinstance(feature, dict) else feature
        if shape is None or (isinstance(shape, dict) and not shape.get("coordinates")):
            empty += 1
        elif not isinstance(shape, dict) or shape.get("type") not in _KINDS:
            kind = shape.get("type") if isinstance(shape, dict) else shape
            raise UserError(f"{path!r} has a {kind!r}: outlines are {' or '.join(_KINDS)}")
        elif is_valid_geom(shape):
            shapes.append(shape)
        else:
            empty += 1
    return shapes, empty, _crs(content, path)


def _parsed(path: str) -> dict[str, Any]:
    """A FeatureCollection; {} of an empty file, as some tiles without buildings have."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        content = json.loads(text) if text.strip() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path!r} is no GeoJSON that can be read ({error})") from error
    if content and (not isinstance(content, dict) or not isinstance(content.get("features"), list)):
        raise UserError(f"{path!r} is no GeoJSON with 'features'")
    return content


def _crs(content: dict[str, Any], path: str) -> Any:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    name = ((content.get("crs") or {}).get("properties") or {}).get("name", _WGS84)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return CRS.from_user_input(name)
    except CRSError as error:
        raise UserError(f"{path!r} has the unknown CRS {name!r}") from error
