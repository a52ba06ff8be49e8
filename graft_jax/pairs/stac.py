"""Items of a STAC item collection as rasters to read: red, green and blue, wherever they lie."""

import json
import os
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from graft_jax.pairs.counts import Counts
from graft_jax.pairs.settings import Settings
from rsvl_jax.errors import UserError

_COLOURS = ("red", "green", "blue")


def read(
    path: str, settings: Settings, counts: Counts
) -> Iterator[tuple[tuple[str, ...], str, str, tuple[int, ...]]]:
    """Yields (addresses, date, sensor, band numbers) of each item of an item collection.

    Items that are too cloudy or without the assets are counted. Addresses relative to the file
    are resolved; http(s) ones are left to GDAL. Raises UserError for a file that is no STAC.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise UserError(f"no rasters at --rasters={path!r}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"--rasters={path!r} is not JSON ({error})") from error
    items = content.get("features", [content]) if isinstance(content, dict) else content
    if not isinstance(items, list) or not all(isinstance(i, dict) and "assets" in i for i in items):
        raise UserError(f"--rasters={path!r} is no STAC item collection: features with assets")
    for item in items:
        properties = item.get("properties") or {}
        name = str(item.get("id", "?"))
        cloud = properties.get("eo:cloud_cover")
        if cloud is not None and float(cloud) > settings.max_cloud:
            counts.skip("raster", "too cloudy", 1)
            continue
        found = _assets(item["assets"], settings)
        if not found:
            have = ", ".join(item["assets"])
            line = f"{path}: item {name!r} has no colour assets: see --assets (it has {have})"
            counts.skip("raster", "no such assets", 1, line)
            continue
        hrefs, numbers = found
        date = str(properties.get("datetime") or properties.get("start_datetime") or "")
        sensor = str(properties.get("platform") or properties.get("constellation") or "")
        yield tuple(_resolve(href, path) for href in hrefs), date, sensor, numbers


def _assets(
    assets: Mapping[str, Any], settings: Settings
) -> tuple[tuple[str, ...], tuple[int, ...]] | None:
    """Addresses and band numbers: what --assets names, else `visual`, else marked colours."""
    if settings.assets:
        if any(name not in assets for name in settings.assets):
            return None
        hrefs = tuple(assets[name]["href"] for name in settings.assets)
        return hrefs, settings.bands or ((1,) if len(hrefs) == 3 else ())
    if "visual" in assets:
        return (assets["visual"]["href"],), settings.bands
    where: dict[str, tuple[str, int]] = {}
    for asset in assets.values():
        for number, band in enumerate(asset.get("eo:bands") or asset.get("bands") or (), 1):
            colour = band.get("common_name") or band.get("eo:common_name")
            where.setdefault(str(colour), (asset["href"], number))
    if any(colour not in where for colour in _COLOURS):
        images = [asset for asset in assets.values() if "tiff" in str(asset.get("type", ""))]
        return ((images[0]["href"],), settings.bands) if len(images) == 1 else None
    hrefs = tuple(where[colour][0] for colour in _COLOURS)
    numbers = tuple(where[colour][1] for colour in _COLOURS)
    return (hrefs if len(set(hrefs)) == 3 else hrefs[:1]), numbers


def _resolve(href: str, path: str) -> str:
    if href.startswith("file://"):
        return urllib.parse.unquote(urllib.parse.urlparse(href).path)
    if "://" in href or href.startswith("/"):
        return href
    return os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(path)), href))
