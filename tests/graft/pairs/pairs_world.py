"""A made-up world for the tests: rasters whose colours tell where they are, and photos on them."""

import numpy as np
import pyproj
import rasterio
from rasterio.transform import from_origin

PIXEL = 10.0


def utm(lon, lat):
    """EPSG code of the UTM zone of a place."""
    return (32700 if lat < 0 else 32600) + int((lon + 180) // 6) % 60 + 1


def colour(x, y):
    """What a raster shows at its own coordinates x, y (metres): slow waves, one a band."""
    red = 127 + 100 * np.sin(x / 400)
    green = 127 + 100 * np.sin(y / 300)
    return np.stack([red, green, 127 + 100 * np.sin((x + y) / 500)])


def write_raster(path, *, lon, lat, pixels=900, dtype="uint8", bands=3, gain=1.0, **changes):
    """A GeoTIFF in UTM centred on a place; pixel values follow `colour` times `gain`."""
    crs = pyproj.CRS.from_epsg(utm(lon, lat))
    x, y = pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat)
    transform = from_origin(x - pixels * PIXEL / 2, y + pixels * PIXEL / 2, PIXEL, PIXEL)
    column, row = np.meshgrid(np.arange(pixels) + 0.5, np.arange(pixels) + 0.5)
    values = colour(*(transform @ (column, row)))[:bands] * gain
    profile = {"driver": "GTiff", "width": pixels, "height": pixels, "count": bands}
    profile |= {"dtype": dtype, "crs": crs, "transform": transform} | changes
    values = changes.pop("values", values)
    profile.pop("values", None)
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.round(values).astype(dtype))
    return str(path)


def scatter(rng, *, lon, lat, count, metres=3000):
    """Places around a place, degrees."""
    step = rng.uniform(-metres, metres, (2, count)) / 111_320
    return lon + step[0] / np.cos(np.radians(lat)), lat + step[1]


def write_table(path, rows):
    """A CSV of dicts."""
    names = list(rows[0])
    lines = [",".join(names), *(",".join(str(row[name]) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def photo_rows(lon, lat, *, prefix="p", date="2019-05-04 10:11:12"):
    """Metadata of photos as Flickr names it."""
    return [
        {"id": f"{prefix}{i}", "owner": f"o{i}", "datetaken": date, "longitude": x, "latitude": y}
        for i, (x, y) in enumerate(zip(lon.tolist(), lat.tolist(), strict=True))
    ]


def zone_lon(lon):
    """Longitude that chose the raster's zone: photos east of 180 lie on a raster of zone 60."""
    return 179.99 if abs(lon) > 179 else lon
