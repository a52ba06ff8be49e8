"""How long a search of a large index takes, and how much memory.

`python -m benchmarks.search [--tiles=1000000] [--dimension=512]`: an index of random embeddings of
tiles all over the Earth is written, then ranked for two queries, filtered by a box, and summed up
to a density map of a quarter of a degree. The model's own time is not in it.
"""

import argparse
import os
import resource
import tempfile
import time

import numpy as np

from graft_jax.search import density, index, ranking
from graft_jax.search.index import About, Index
from graft_jax.search.settings import Search
from rsvl_jax.rasters import footprints

_SIDE = 0.02  # degrees of a tile
_THUMBNAIL = bytes(1500)


class Texts:
    """A model that makes random unit vectors of texts."""

    image_size, patch_size, fingerprint = 224, 16, "random"

    def __init__(self, dimension: int):
        self._dimension = dimension

    def images(self, pixels):
        """Nothing here is embedded."""
        raise NotImplementedError

    def texts(self, texts: list[str]) -> np.ndarray:
        """n texts -> float32 [n, E]."""
        found = np.random.default_rng(1).normal(size=(len(texts), self._dimension))
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def write_index(path: str, tiles: int, dimension: int) -> None:
    """Random places and embeddings."""
    rng = np.random.default_rng(0)
    with index.create(path) as writer:
        for number in range(tiles):
            lon, lat = rng.uniform(-180, 180 - _SIDE), rng.uniform(-60, 75)
            ring = footprints.rectangle(lon, lat, lon + _SIDE, lat + _SIDE)
            writer.add(
                {
                    "id": f"scene{number // 2000}.tif/r{number % 2000}",
                    "geometry": footprints.well_known_binary(ring),
                    "bbox": footprints.box(ring),
                    "lon": lon + _SIDE / 2,
                    "lat": lat + _SIDE / 2,
                    "source": f"scene{number // 2000}.tif",
                    "source_crs": "EPSG:4326",
                    "row": 0,
                    "column": 0,
                    "gsd": 10.0,
                    "date": None,
                    "valid": 1.0,
                    "embedding": rng.standard_normal(dimension, np.float32),
                    "thumbnail": _THUMBNAIL,
                }
            )
        writer.finish(About("random", 224, dimension, 10.0, "random numbers", tiles))


def main() -> None:
    """Prints one row of a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tiles.parquet")
        start = time.perf_counter()
        if (child := os.fork()) == 0:  # its memory is not to be counted
            write_index(path, given.tiles, given.dimension)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        seconds = {"write s": time.perf_counter() - start}
        settings = Search(
            index=path, queries=("a", "b"), bbox=(-20.0, -35.0, 60.0, 70.0), density="x.tif"
        )
        start, cpu = time.perf_counter(), time.process_time()
        found = ranking.search(Index(path), Texts(given.dimension), settings)
        seconds["search s"] = time.perf_counter() - start
        seconds["search CPU s"] = time.process_time() - cpu
        start = time.perf_counter()
        cells = density.grid(found.places, 0.25, settings.bbox)
        density.means(found.scores, found.places, cells)
        seconds["density s"] = time.perf_counter() - start
        size = os.path.getsize(path) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| tiles | E | file GiB | {' | '.join(seconds)} | peak GiB |")
    print("|---|---|---|---|---|---|---|---|")
    times = " | ".join(f"{value:.1f}" for value in seconds.values())
    print(f"| {given.tiles:,} | {given.dimension} | {size:.2f} | {times} | {peak:.2f} |")


if __name__ == "__main__":
    main()
