"""Unit vectors of embeddings and of places."""

import numpy as np


def normalize(x: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32 [..., E]; a zero row stays zero."""
    x = np.asarray(x, np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def on_sphere(*, lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    """Points on the unit sphere, float32 [n,3], from longitude and latitude in degrees [n]."""
    east, north = np.radians(np.asarray(lon, np.float64)), np.radians(np.asarray(lat, np.float64))
    xyz = np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)
    return np.stack(xyz, axis=-1).astype(np.float32)
