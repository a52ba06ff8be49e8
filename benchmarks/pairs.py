"""How long putting synthetic photos onto tiles takes, and how much memory.

`python -m benchmarks.pairs [--photos=1000000] [--gsd=10]`: metadata from a CSV of Flickr's columns
through filters, raster lookup, splits, cover and the proof that the splits are apart to the plan
on disk; everything but cutting pixels. Photos cluster around towns of very different sizes, on a
made-up grid of raster footprints over all land and sea, so no raster is read.
"""

import argparse
import os
import resource
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.csv

from graft_jax.pairs import collect, rasters
from graft_jax.pairs.counts import Counts
from graft_jax.pairs.settings import Settings

_CHUNK = 1_000_000
_DEGREES = 5.0  # side of a raster's footprint


def write_metadata(path: str, count: int) -> None:
    """A CSV of photos: towns with a heavy-tailed number of photos, 20,000 owners, ten years."""
    rng = np.random.default_rng(0)
    towns = max(1, count // 2000)
    lon = rng.uniform(-180, 180, towns)
    lat = np.degrees(np.arcsin(rng.uniform(-0.8, 0.95, towns)))
    share = rng.pareto(1.1, towns)
    with pa.OSFile(path, "wb") as file:
        for first in range(0, count, _CHUNK):
            size = min(_CHUNK, count - first)
            town = rng.choice(towns, size, p=share / share.sum())
            place = rng.normal(0, 0.05, (2, size))
            day = np.datetime64("2010-01-01") + rng.integers(0, 3650, size)
            table = pa.table(
                {
                    "id": np.arange(first, first + size) + 5_000_000_000,
                    "owner": [f"{n}@N00" for n in rng.integers(0, 20_000, size).tolist()],
                    "datetaken": np.datetime_as_string(day),
                    "longitude": (lon[town] + place[0] + 180) % 360 - 180,
                    "latitude": np.clip(lat[town] + place[1], -85, 85),
                    "accuracy": rng.integers(15, 17, size),
                    "url": [f"https://photos.example/{n:012d}_m.jpg" for n in range(size)],
                }
            )
            pa.csv.write_csv(table, file, pa.csv.WriteOptions(include_header=first == 0))


def footprints(gsd: float) -> list[rasters.Raster]:
    """Rasters in degrees that cover the Earth without overlap, of pixels of about `gsd`."""
    crs = rasters.rasterio.crs.CRS.from_epsg(4326).to_wkt()
    step = gsd / 111_320
    side = round(_DEGREES / step)
    return [
        rasters.Raster(
            (("none.tif", 1),) * 3, crs, (step, 0.0, west, 0.0, -step, north), side, side, 17000, ""
        )
        for north in np.arange(90.0, -90.0, -_DEGREES).tolist()
        for west in np.arange(-180.0, 180.0, _DEGREES).tolist()
    ]


def main() -> None:
    """Prints one row of a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=1_000_000)
    parser.add_argument("--gsd", type=float, default=10.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "photos.csv")
        if (child := os.fork()) == 0:  # its memory is not to be counted
            write_metadata(path, arguments.photos)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        settings = Settings(photos=(path,), rasters=("none.tif",), gsd=arguments.gsd, block=1.0)
        counts = Counts()
        made: dict = {}
        images = footprints(arguments.gsd)
        start, cpu = time.perf_counter(), time.process_time()
        collect.make_plan(settings, images, folder, counts, made)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print("| photos | gsd m | tiles | photos on tiles | seconds | CPU seconds | peak GiB |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {arguments.photos:,} | {arguments.gsd:g} | {made['planned']['tiles']:,} | "
        f"{made['planned']['photos']:,} | {seconds:.1f} | {cpu:.1f} | {peak:.2f} |"
    )
    print(counts.skipped("photo"))


if __name__ == "__main__":
    main()
