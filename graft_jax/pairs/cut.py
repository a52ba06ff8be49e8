"""From one line of the plan to one record: a pure function of the plan, the rasters, the photos."""

import functools
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from PIL import Image, ImageOps
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from graft_jax.pairs import columns, local, plan
from graft_jax.pairs.rasters import Raster, gdal
from graft_jax.pairs.settings import Settings

_OPEN = 32  # datasets a worker keeps open
_TOLERANCE = 0.001  # pixels a warped one may be off; rasterio's default is an eighth, 0 fails
_PHOTO_QUALITY, _TILE_QUALITY = 90, 95


@dataclass(frozen=True)
class Cut:
    """What became of a tile: its record or None, and what was left out ("kind", "reason")."""

    record: dict[str, Any] | None
    skips: Counter[tuple[str, str]]


def cut(tile: Mapping[str, Any], rasters: Sequence[Raster], settings: Settings) -> Cut:
    """Reads the tile's ground and photos.

    The rasters of the tile are tried in turn until one has enough valid pixels. Photos that
    cannot be read are left out; a tile none of whose photos can be is left out too.
    """
    skips: Counter[tuple[str, str]] = Counter()
    kept, encoded = _photos(tile, settings, skips)
    if not kept:
        skips["tile", "no photo left"] += 1
        return Cut(None, skips)
    reason = "no raster of its date"
    for number in tile["rasters"]:
        if number < 0:
            break
        try:
            pixels, valid = ground(tile["lon"], tile["lat"], rasters[number], settings)
        except rasterio.errors.RasterioError:
            reason = "its raster cannot be read"
            continue
        if valid.mean() >= settings.min_valid:
            return Cut(_record(tile, pixels, rasters[number], kept, encoded, settings), skips)
        reason = "too few valid pixels"
    skips["tile", reason] += 1
    return Cut(None, skips)


def cut_group(group: int, path: str, rasters: Sequence[Raster], settings: Settings) -> list[Cut]:
    """What becomes of the tiles of one row group of a plan file; runs in any process."""
    with gdal():
        return [cut(tile, rasters, settings) for tile in plan.read(path, group)]


def ground(
    lon: float, lat: float, raster: Raster, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """The tile around a place: RGB uint8 [H, W, 3], 0 where not valid, and valid bool [H, W].

    Raises rasterio's errors where the raster cannot be read.
    """
    grid = settings.grid
    files: dict[str, list[int]] = {}
    for address, number in raster.bands:
        if number not in files.setdefault(address, []):
            files[address].append(number)
    valid = np.ones((grid.size, grid.size), bool)
    read: dict[tuple[str, int], np.ndarray] = {}
    for address, numbers in files.items():
        dataset = _dataset(address)
        has_mask = dataset.nodata is not None or dataset.count in _alpha(dataset)
        with WarpedVRT(
            dataset,
            src_crs=_source_crs(dataset),
            crs=local.crs(lon=lon, lat=lat),
            transform=Affine(*grid.transform),
            width=grid.size,
            height=grid.size,
            resampling=Resampling[settings.resampling],
            tolerance=_TOLERANCE,
            add_alpha=not has_mask,
        ) as warped:
            values = warped.read(numbers)
            valid &= warped.dataset_mask() > 0
        read |= {(address, n): value for n, value in zip(numbers, values, strict=True)}
    bands = np.stack([read[band] for band in raster.bands], -1)
    valid &= np.isfinite(bands).all(-1)
    return np.where(valid[..., None], _stretch(bands, settings), 0).astype(np.uint8), valid


def _source_crs(dataset) -> str:
    """The raster's CRS; one in degrees beyond 180 gets longitudes that follow its own."""
    left, _, right, _ = dataset.bounds
    if not dataset.crs.is_geographic or (left >= -180 and right <= 180):
        return dataset.crs.to_wkt()
    return f"{dataset.crs.to_proj4()} +lon_wrap={(left + right) / 2!r}"


def _stretch(bands: np.ndarray, settings: Settings) -> np.ndarray:
    if settings.stretch is None:
        return bands
    low, high = settings.stretch
    scaled = (np.nan_to_num(bands.astype(np.float32)) - low) / (high - low)
    return np.round(255 * np.clip(scaled, 0, 1))


def _alpha(dataset) -> tuple[int, ...]:
    interp = dataset.colorinterp
    return tuple(i for i, c in enumerate(interp, 1) if c == rasterio.enums.ColorInterp.alpha)


@functools.lru_cache(maxsize=_OPEN)
def _dataset(address: str):
    return rasterio.open(address)


def _record(
    tile: Mapping[str, Any],
    pixels: np.ndarray,
    raster: Raster,
    kept: list[int],
    encoded: list[bytes],
    settings: Settings,
) -> dict[str, Any]:
    lon, lat = tile["lon"], tile["lat"]
    box = local.footprint(lon=np.array([lon]), lat=np.array([lat]), half=settings.grid.half)[0]
    box[[0, 2]] += 360 * (box[0] < -180)
    return {
        "id": tile["id"],
        "image": _encoded(pixels, settings),
        "gsd": settings.gsd,
        "lon": lon,
        "lat": lat,
        "footprint": box.astype(np.float32),
        "date": columns.iso(raster.day),
        "sensor": raster.sensor,
        "photo_ids": [tile["photo_id"][i] for i in kept],
        "photo_xy": np.array([(tile["x"][i], tile["y"][i]) for i in kept], np.float32),
        "photo_lon": np.array([tile["photo_lon"][i] for i in kept], np.float64),
        "photo_lat": np.array([tile["photo_lat"][i] for i in kept], np.float64),
        "photo_dates": [columns.iso(tile["photo_day"][i]) for i in kept],
        "photos": encoded,
        "embeddings": np.zeros((0, 0), np.float16),
        "tower": "",
    }


def _encoded(pixels: np.ndarray, settings: Settings) -> bytes:
    buffer = io.BytesIO()
    if settings.image_format == "png":
        Image.fromarray(pixels).save(buffer, "png")
    else:
        Image.fromarray(pixels).save(buffer, "jpeg", quality=_TILE_QUALITY, subsampling=0)
    return buffer.getvalue()


def _photos(tile: Mapping[str, Any], settings: Settings, skips: Counter[tuple[str, str]]):
    """Which photos stay, and their images: of all of them, or where no path is known of none."""
    kept, encoded = [], []
    for number, path in enumerate(tile["photo_path"]):
        if path:
            try:
                image = photo(path, settings)
            except FileNotFoundError:
                skips["photo", "its file is missing"] += 1
                continue
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
                skips["photo", "its file is truncated or no image"] += 1
                continue
            if not image:
                skips["photo", "too small"] += 1
                continue
            encoded.append(image)
        kept.append(number)
    return kept, encoded


def photo(path: str, settings: Settings) -> bytes:
    """A photo as upright JPEG, its shorter side at most `photo_size`, without EXIF.

    A JPEG that is so already keeps its bytes, unless it holds EXIF (place, owner, device). Empty
    if the shorter side is less than `min_side`. Raises OSError and others for no image.
    """
    with open(path, "rb") as file:
        data = file.read()
    with Image.open(io.BytesIO(data)) as image:
        image.load()  # a truncated file raises here
        if min(image.size) < settings.min_side:
            return b""
        shorter = min(image.size)
        fits = not settings.photo_size or shorter <= settings.photo_size
        if fits and image.format == "JPEG" and image.mode == "RGB" and "exif" not in image.info:
            return data
        upright = ImageOps.exif_transpose(image).convert("RGB")
    if not fits:
        scale = settings.photo_size / shorter
        width, height = (max(settings.photo_size, round(s * scale)) for s in upright.size)
        upright = upright.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    upright.save(buffer, "jpeg", quality=_PHOTO_QUALITY)
    return buffer.getvalue()
