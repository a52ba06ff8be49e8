"""Small copies of data sets, in the layouts that they have on disk."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def image(path: Path, value: int = 100, size=(8, 8), mode: str = "RGB") -> Path:
    """A plain image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = {"RGB": (value, 0, 0), "RGBA": (value, 0, 0, 9), "CMYK": (0, value, 0, 0)}
    Image.new(mode, size, colour.get(mode, value)).save(path)
    return path


def tif(path: Path, bands: int, dtype: str = "uint16", value: int = 1500) -> Path:
    """A GeoTIFF of so many bands, each one hundred brighter than the one before."""
    import rasterio

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.arange(bands)[:, None, None] * 100 + np.full((bands, 8, 8), value)
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": bands, "dtype": dtype}
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels.astype(dtype))
    return path


def folders(root: Path, classes, each: int = 5, ending: str = "jpg") -> Path:
    """CLASS/CLASS_N.jpg."""
    for number, name in enumerate(classes):
        for place in range(1, each + 1):
            image(root / name / f"{name}_{place}.{ending}", 20 * number)
    return root


def karpathy(root: Path, name: str, entries) -> Path:
    """entries: (filename, split, captions)."""
    images = [
        {"filename": file, "split": split, "sentences": [{"raw": text} for text in texts]}
        for file, split, texts in entries
    ]
    for file, _, _ in entries:
        image(root / "images" / file)
    (root / f"{name}.json").write_text(json.dumps({"images": images, "dataset": name}))
    return root


def tar(path: Path, members) -> Path:
    """members: (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def encoded(value: int = 90) -> bytes:
    """Bytes of a PNG."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()
