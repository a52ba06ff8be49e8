"""A SpaceNet 1 in small: tiles with a geotransform, and outlines given in pixels of the tile."""

import json
from pathlib import Path

import numpy as np

STEP = 0.0000045  # degrees a pixel, half a metre
CORNER = (-43.5, -22.9)


def place(column: float, row: float, corner=CORNER) -> list[float]:
    """Longitude and latitude of a point of a tile."""
    return [corner[0] + column * STEP, corner[1] - row * STEP]


def polygon(*rings, corner=CORNER) -> dict:
    """rings: of (column, row), closed here."""
    closed = [[place(*point, corner) for point in (*ring, ring[0])] for ring in rings]
    return {"type": "Polygon", "coordinates": closed}


def tile(path: Path, pixels: np.ndarray, crs="EPSG:4326", transform=None) -> Path:
    """uint8 [H,W,C]."""
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = pixels.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": count}
    profile |= {"dtype": pixels.dtype, "crs": crs}
    profile["transform"] = transform or from_origin(*CORNER, STEP, STEP)
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.moveaxis(pixels, -1, 0))
    return path


def outlines(path: Path, shapes, **more) -> Path:
    """A FeatureCollection."""
    path.parent.mkdir(parents=True, exist_ok=True)
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **more}))
    return path


def pair(root: Path, number: int, shapes, size=(40, 44), seed=0) -> Path:
    """A tile of noise brighter in squares, and its outlines."""
    pixels = np.random.default_rng(seed + number).integers(1, 256, (*size, 3)).astype(np.uint8)
    outlines(root / "geojson" / f"Geo_AOI_1_RIO_img{number}.geojson", shapes)
    return tile(root / "3band" / f"3band_AOI_1_RIO_img{number}.tif", pixels)
