"""What the PyPI package `geoclip` carries: real weights and a gallery. It is never imported."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

VERSION = "1.3.0"


def folder():
    """Where the package is installed; skips the test without it."""
    spec = importlib.util.find_spec("geoclip")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs the files of geoclip=={VERSION} (pip install --no-deps)")
    return Path(spec.submodule_search_locations[0]) / "model"


def weights():
    """Path of the location encoder's weights."""
    return str(folder() / "weights" / "location_encoder_weights.pth")


def gallery():
    """(lon, lat) float32 [100000] each: where its predictions may lie."""
    rows = np.loadtxt(
        folder() / "gps_gallery" / "coordinates_100K.csv", delimiter=",", skiprows=1, dtype="f4"
    )
    return rows[:, 1], rows[:, 0]
