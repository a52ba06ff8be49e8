"""Where on Earth an image was taken: distance from the place that is guessed to the true one."""

import numpy as np

KILOMETRES = (1, 25, 200, 750, 2500)  # street, city, region, country, continent: GeoCLIP and others
EARTH_RADIUS_KM = 6371.0088  # mean radius, IUGG


def distance_km(
    *, lon: np.ndarray, lat: np.ndarray, to_lon: np.ndarray, to_lat: np.ndarray
) -> np.ndarray:
    """Great-circle distance on the sphere of mean radius, km, float64 [n]; degrees in.

    Haversine. Within 0.6 % of the geodesic on the WGS 84 ellipsoid, which GeoCLIP takes: an
    accuracy at a threshold changes for places in that margin of it alone.
    """
    lon, lat, to_lon, to_lat = (
        np.radians(np.asarray(v, np.float64)) for v in (lon, lat, to_lon, to_lat)
    )
    half = np.sin((to_lat - lat) / 2) ** 2
    half = half + np.cos(lat) * np.cos(to_lat) * np.sin((to_lon - lon) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(half.clip(0, 1)))


def tallies(km: np.ndarray, thresholds: tuple[float, ...] = KILOMETRES) -> np.ndarray:
    """Per-image counts, float64 [n, T+1]: within each threshold (km), then one."""
    within = np.asarray(km)[:, None] <= np.asarray(thresholds)
    return np.concatenate([within, np.ones((len(within), 1))], axis=1)


def accuracy(totals: np.ndarray, position: int) -> np.ndarray:
    """Share within thresholds[position]: summed tallies [..., T+1] -> [...] in [0, 1]."""
    return totals[..., position] / np.maximum(totals[..., -1], 1)
